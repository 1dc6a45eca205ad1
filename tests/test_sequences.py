"""What every space of chains gets from its automaton, held against enumeration by other means."""

from __future__ import annotations

import pickle
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import product
from typing import Any

import numpy as np
import pytest
from scipy import stats
from spaces_contract import SpaceContract

from nas.architecture import Architecture, Graph, InvalidArchitecture, Node
from nas.protocols import NothingToChange
from search_spaces.operations import BLOCKS, CLASSIFIER, Operation
from search_spaces.plan import Placed
from search_spaces.sequences import Layer, SequenceSpace, layer


class Towers(SequenceSpace):
    """Runs of one or two convolutions, each run ended by a pooling; widths never fall."""

    name = "towers"
    operations = {  # noqa: RUF012
        "conv": BLOCKS["conv"],
        "pool": Operation((), lambda b, _: b.pool("pool", -1, "max_pool", 2, 2, pad=False)),
    }

    def start(self) -> Any:
        return 0, 0, min(self.input_shape[1:])  # width, convolutions in this run, side

    def layers(self, state: Any) -> list[Layer]:
        width, run, side = state
        convs = [layer("conv", kernel=3, stride=1, width=w) for w in (4, 8) if w >= width and run < 2]
        return convs + [layer("pool")] * (run > 0 and side > 1)

    def step(self, state: Any, layer: Layer) -> Any:
        width, run, side = state
        return (width, 0, side // 2) if layer[0] == "pool" else (dict(layer[1])["width"], run + 1, side)

    def may_end(self, state: Any) -> bool:
        return bool(state[0] and not state[1])

    def plan(self, arch: Architecture) -> list[Placed]:
        plan: list[Placed] = []
        net = self.place_graph(plan, "net", arch.graph())
        self.place(plan, "head", CLASSIFIER, net, classes=self.classes)
        return plan


class TestTowers(SpaceContract):
    def make(self) -> Towers:
        return Towers((1, 8, 8), 3, depth=(2, 7))


class TestTowersOnOddImages(SpaceContract):
    def make(self) -> Towers:
        return Towers((3, 5, 9), 2, depth=(3, 6))


WORDS = {"a": layer("conv", kernel=3, stride=1, width=4), "b": layer("conv", kernel=3, stride=1, width=8)}
WORDS |= {"P": layer("pool")}


def text(arch: Architecture) -> str:
    """A tower as letters: a and b are convolutions of width 4 and 8, P is a pooling."""
    letters = {written: letter for letter, written in WORDS.items()}
    return "".join(letters[node.op, node.params] for node in arch.graph().nodes[1:])


def tower(letters: str, ids: Sequence[int] | None = None) -> Architecture:
    ids = ids or range(len(letters) + 1)
    nodes = [Node(ids[0], "input")]
    for before, node_id, letter in zip(ids, ids[1:], letters, strict=False):
        nodes.append(Node(node_id, WORDS[letter][0], (before,), WORDS[letter][1]))
    return Architecture("towers", (("net", Graph(tuple(nodes))),))


def is_tower(letters: str, side: int = 8) -> bool:
    """The rules once more, on whole words."""
    order = letters.replace("P", "")
    return (
        re.fullmatch(r"([ab]{1,2}P)+", letters) is not None
        and order == "".join(sorted(order))
        and side >> letters.count("P") >= 1
    )


def towers(smallest: int, largest: int) -> list[str]:
    words = (map("".join, product("abP", repeat=depth)) for depth in range(smallest, largest + 1))
    return [word for of_depth in words for word in of_depth if is_tower(word)]


def changes(word: str, smallest: int, largest: int) -> Iterator[set[str]]:
    """What each kind of mutation can give, by trying every letter at every place."""
    places = range(len(word))
    swaps = {word[:i] + letter + word[i + 1 :] for i in places for letter in "abP"} - {word}
    ops = {other for other in swaps if other.replace("b", "a") != word.replace("b", "a")}
    longer = {word[:i] + letter + word[i:] for i in range(len(word) + 1) for letter in "abP"}
    shorter = {word[:i] + word[i + 1 :] for i in places}
    for found in (ops, swaps - ops, longer, shorter):
        yield {other for other in found if is_tower(other) and smallest <= len(other) <= largest}


# --- counts and laws -------------------------------------------------------------------------------


@pytest.mark.parametrize("depth", [(0, 9), (2, 7), (3, 3), (5, 8)])
def test_size_is_the_number_of_words(depth: tuple[int, int]) -> None:
    words = towers(*depth)
    space = Towers((1, 8, 8), 2, depth)
    assert space.size() == len(words) > 0
    for word in words:
        space.check(tower(word))


def test_samples_are_uniform_over_all_words() -> None:
    space, words = Towers((1, 8, 8), 2, (2, 7)), towers(2, 7)
    rng = np.random.default_rng(0)
    drawn = Counter(text(space.sample(rng)) for _ in range(40 * len(words)))
    assert set(drawn) <= set(words)
    assert stats.chisquare([drawn[word] for word in words]).pvalue > 0.01


class Letters(Towers):
    """Any convolutions: 2^depth words of one depth."""

    def layers(self, state: Any) -> list[Layer]:
        return [WORDS["a"], WORDS["b"]]

    def step(self, state: Any, layer: Layer) -> Any:
        return state

    def may_end(self, state: Any) -> bool:
        return True


def test_sizes_beyond_64_bits_are_sampled_uniformly() -> None:
    """2^69 + 2^70 words: every place is a fair coin, and two thirds of the words are the longer ones."""
    space = Letters((1, 4, 4), 2, (69, 70))
    assert space.size() == 2**69 + 2**70
    rng = np.random.default_rng(1)
    words = [text(space.sample(rng)) for _ in range(1500)]
    assert stats.binomtest(sum(len(word) == 70 for word in words), len(words), 2 / 3).pvalue > 0.01
    for place in (0, 1, 33, 63, 64, 68):
        ones = sum(word[place] == "a" for word in words)
        assert stats.binomtest(ones, len(words), 0.5).pvalue > 0.001
    assert len(set(words)) == len(words)


def test_neighbors_are_the_words_one_change_away_each_once() -> None:
    for smallest, largest in ((2, 7), (3, 6)):
        space = Towers((1, 8, 8), 2, (smallest, largest))
        for word in towers(smallest, largest):
            found = [text(other) for other in space.neighbors(tower(word))]
            assert len(set(found)) == len(found)
            assert set(found) == set().union(*changes(word, smallest, largest))


@pytest.mark.parametrize("word", ["aP", "abPbP", "aaPbbP", "bPbbPbP"])
def test_the_law_of_mutation(word: str) -> None:
    """The kind is uniform among those that apply, the word uniform within its kind."""
    space, rng = Towers((1, 8, 8), 2, (2, 7)), np.random.default_rng(2)
    kinds = [found for found in changes(word, 2, 7) if found]
    expected = {other: 1 / len(kinds) / len(found) for found in kinds for other in found}
    arch, count = tower(word), 4000
    drawn = Counter(text(space.mutate(arch, rng)) for _ in range(count))
    assert set(drawn) <= set(expected)
    observed = [drawn[other] for other in expected]
    assert stats.chisquare(observed, [count * p for p in expected.values()]).pvalue > 0.01


def test_the_law_of_crossover() -> None:
    """Every pair of cuts that gives a word is as likely as any other."""
    space, rng = Towers((1, 8, 8), 2, (2, 7)), np.random.default_rng(3)
    a, b = "abPbP", "aPaPbbP"
    cuts = Counter(
        child
        for i in range(len(a) + 1)
        for j in range(len(b) + 1)
        if is_tower(child := a[:i] + b[j:]) and 2 <= len(child) <= 7
    )
    count = 4000
    drawn = Counter(text(space.crossover(tower(a), tower(b), rng)) for _ in range(count))
    assert set(drawn) <= set(cuts)
    expected = [count * n / sum(cuts.values()) for n in cuts.values()]
    assert stats.chisquare([drawn[child] for child in cuts], expected).pvalue > 0.01


# --- ids ----------------------------------------------------------------------------------------------


def test_ids_survive_insertion_removal_and_replacement() -> None:
    space = Towers((1, 8, 8), 2, (2, 7))
    ids = (7, 3, 9, 5, 0)
    around = {text(other): other for other in space.neighbors(tower("aPbP", ids))}
    assert [node.id for node in around["aaPbP"].graph()] == [7, 10, 3, 9, 5, 0]
    assert [node.id for node in around["aPbbP"].graph()] == [7, 3, 9, 10, 5, 0]
    assert [node.id for node in around["aPaP"].graph()] == [7, 3, 9, 5, 0]
    back = {text(other): other for other in space.neighbors(tower("abPbP", (7, 3, 10, 9, 5, 0)))}
    assert [node.id for node in back["aPbP"].graph()] == [7, 3, 9, 5, 0]


def test_a_child_keeps_the_ids_of_its_first_parent_only() -> None:
    space, rng = Towers((1, 8, 8), 2, (2, 7)), np.random.default_rng(4)
    a, b = tower("aPaP", (4, 3, 2, 1, 0)), tower("bPbP", (10, 20, 30, 40, 50))
    seen = set()
    for _ in range(60):
        found = [node.id for node in space.crossover(a, b, rng).graph()]
        kept = [i for i in found if i <= 4]
        assert kept == [4, 3, 2, 1, 0][: len(kept)]
        assert found[len(kept) :] == list(range(51, 51 + len(found) - len(kept)))
        seen.add(len(kept))
    assert len(seen) > 2


# --- what cannot be -----------------------------------------------------------------------------------


def changed(arch: Architecture, place: int, **fields: Any) -> Architecture:
    data = arch.to_dict()
    data["graphs"][0]["nodes"][place] |= fields
    return Architecture.from_dict(data)


GOOD = tower("aPbP")


@pytest.mark.parametrize(
    ("arch", "message"),
    [
        (tower("Pa"), r"^node 1 \(pool\): a layer here must be one of conv, but got 'pool'$"),
        (tower("aaaP"), r"^node 3 \(conv\): a layer here must be one of pool, but got 'conv'$"),
        (tower("bPaP"), r"^node 3 \(conv\): its parameters must be one of \[.*8\}\] here, but got .*4\}$"),
        (tower("ab"), r"^node 2 \(conv\): a chain must not end here$"),
        (tower(""), r"^node 0 \(input\): a chain must have 2 to 5 layers, but it ends after 0$"),
        (tower("aPaPaP"), r"^node 6 \(pool\): a chain must have 2 to 5 layers, but it ends after 6$"),
        (changed(GOOD, 3, inputs=[1]), r"^node 3 \(conv\): a layer must read node 2, but got \(1,\)$"),
        (changed(GOOD, 3, inputs=[2, 2]), r"^node 3 \(conv\): a layer must read node 2"),
        (changed(GOOD, 0, params={"a": 1}), r"^node 0 \(input\): the first node must be the input"),
        (changed(GOOD, 0, op="pool"), r"^node 0 \(pool\): the first node must be the input"),
        (changed(GOOD, 2, op="input", inputs=[]), r"^node 2 \(input\): a layer must read node 1"),
        (changed(GOOD, 1, params={"kernel": 3, "stride": 1, "width": 4.0}), r"^node 1 .* parameters .*4\.0"),
        (changed(GOOD, 1, params={"kernel": 3, "stride": True, "width": 4}), r"^node 1 .* parameters .*True"),
        (changed(GOOD, 1, params={"kernel": 3, "width": 4}), r"^node 1 \(conv\): its parameters must be one"),
        (Architecture("towers", GOOD.graphs, (("k", 1),)), r"its parameters must be \(\), but got {.k.: 1}"),
        (Architecture("tower", GOOD.graphs), "must be of space 'towers', but it is of 'tower'"),
    ],
)  # fmt: skip
def test_a_chain_that_breaks_a_rule_names_node_and_rule(arch: Architecture, message: str) -> None:
    space = Towers((1, 8, 8), 2, (2, 5))
    space.check(GOOD)  # what was seen before does not matter
    with pytest.raises(InvalidArchitecture, match=message):
        space.check(arch)


@pytest.mark.parametrize("depth", [(3, 2), (-1, 2), (1,), (1, 2, 3), (1.0, 2), (0, True)])
def test_senseless_depths_are_refused(depth: Any) -> None:
    with pytest.raises(ValueError, match=re.escape(f"`0 <= smallest <= largest`, but got {depth}")):
        Towers((1, 8, 8), 2, depth)


def test_rules_that_allow_no_chain_or_one() -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match="must allow a chain of 1 to 1 layers, but allow none"):
        Towers((1, 8, 8), 2, (1, 1)).sample(rng)
    assert Towers((1, 8, 8), 2, (1, 1)).size() == 0
    empty = Letters((1, 8, 8), 2, (0, 0))
    arch = empty.sample(rng)
    assert text(arch) == "" and empty.size() == 1 and empty.neighbors(arch) == []
    assert empty.cost(arch).params > 0
    with pytest.raises(NothingToChange):
        empty.mutate(arch, rng)


class Twice(Letters):
    def layers(self, state: Any) -> list[Layer]:
        return [WORDS["a"], WORDS["a"]]


def test_a_layer_listed_twice_is_refused() -> None:
    with pytest.raises(ValueError, match=r"the layers that may come in state .* must differ"):
        Twice((1, 8, 8), 2, (1, 2)).size()


# --- views --------------------------------------------------------------------------------------------


def test_encoding_by_hand() -> None:
    """Columns: conv, kernel 3, stride 1, width 4, width 8, pool; zeros beyond the end."""
    a, b, pool = [1, 1, 1, 1, 0, 0], [1, 1, 1, 0, 1, 0], [0, 0, 0, 0, 0, 1]
    encoded = Towers((1, 8, 8), 2, (2, 5)).encode(tower("abP"))
    assert encoded.tolist() == [*a, *b, *pool, *[0] * 12]


def test_a_pickled_space_goes_on_as_before() -> None:
    space = Towers((1, 8, 8), 2, (2, 7))
    arch = space.sample(np.random.default_rng(5))
    again = pickle.loads(pickle.dumps(space))  # noqa: S301
    again.check(arch)
    assert again.sample(np.random.default_rng(5)) == arch
    assert [n.key for n in again.neighbors(arch)] == [n.key for n in space.neighbors(arch)]
