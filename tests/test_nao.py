"""NAO: sentences of architectures, the network that reads and writes them, the search along its gradient."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch

from nas.architecture import Architecture, Graph, Node
from nas.protocols import Objective
from nas.searchers import NAO, RandomSearch
from nas.searchers.sentences import GeneScript, GraphScript, Vocabulary, script_of
from nas.surrogates.model import Floats, Unfit
from nas.surrogates.nao_model import Codec, Training, Words, fit
from nas.trial import Failure, Trial
from search_spaces.chain import ChainSpace
from search_spaces.darts import DARTSSpace
from search_spaces.nasnet import NASNetSpace
from tests.searching import MACRO, OBJECTIVES, digits, make, proposals, run
from tests.small_spaces import SMALL_SPACES

ERROR = (Objective("error"),)
SMALL = Training(hidden=32, updates=120, learning_rate=0.01)


def few_twos(trial: Trial) -> dict[str, float]:
    return {"error": 100.0 - sum(digits(trial)), "twos": float(digits(trial).count(2))}


# --- sentences -----------------------------------------------------------------------------------------


def test_genes_are_words() -> None:
    script = script_of(MACRO)
    sentence = script.write(MACRO.decode("20120011"))
    assert sentence == tuple(f"'{digit}'" for digit in "20120011")
    found = script.read(sentence)
    assert found is not None and MACRO.code(found) == "20120011"
    assert script.read(sentence[:7]) is None
    assert script.read((*sentence[:7], "'3'")) is None


def test_nodes_are_words_where_there_are_no_genes() -> None:
    nodes = (Node(4, "input"), Node(7, "conv", (4,), (("kernel", 3),)), Node(9, "add", (4, 7)))
    arch = Architecture("own", (("net", Graph(nodes)),), (("width", 8),))
    assert GraphScript(MACRO).write(arch) == (
        *("width=8", "input()/0", "conv(('kernel', 3),)/1", "-1", "add()/2", "-2", "-1"),
        "|",
    )


@pytest.mark.parametrize("name", SMALL_SPACES)
def test_sentences_tell_architectures_apart_in_every_space(name: str) -> None:
    """One sentence for one written form, however its ids are; genes are read again."""
    space, rng = SMALL_SPACES[name](), np.random.default_rng(0)
    script = script_of(space)
    arches = [space.sample(rng) for _ in range(15)]
    arches += [space.mutate(arch, rng) for arch in arches]
    sentences = [script.write(arch) for arch in arches]
    for arch, sentence in zip(arches, sentences, strict=True):
        if isinstance(script, GeneScript):
            found = script.read(sentence)
            assert found is not None and found.key == arch.key
    for alike in (0, 1, 2):
        for other in range(len(arches)):
            if sentences[alike] == sentences[other]:
                assert arches[alike].key == arches[other].key


def test_words_have_numbers_and_places() -> None:
    vocabulary = Vocabulary.of([("a", "b"), ("a", "c", "a")])
    assert len(vocabulary) == 4
    assert vocabulary.rows([("c",), ("a", "b", "c")]).tolist() == [[3, 0, 0], [1, 2, 3]]
    assert vocabulary.allowed.astype(int).tolist() == [[0, 1, 0, 0], [0, 0, 1, 1], [1, 1, 0, 0]]
    assert vocabulary.sentences(np.array([[3, 0, 0], [1, 2, 3]])) == [("c",), ("a", "b", "c")]
    known = [vocabulary.knows(s) for s in [("b",), ("d",), ("a",) * 4]]
    assert known == [True, False, False]


@pytest.mark.parametrize("name", SMALL_SPACES)
def test_twins_are_the_same_network_in_other_words(name: str) -> None:
    space, rng = SMALL_SPACES[name](), np.random.default_rng(1)
    script = script_of(space)
    for arch in [space.sample(rng) for _ in range(10)]:
        twins = script.twins(arch)
        assert script.write(arch) not in twins
        assert len(set(twins)) == len(twins) <= 4
        for twin in twins if isinstance(script, GeneScript) else ():
            other = script.read(twin)
            assert other is not None
            assert space.canonical(other).key == space.canonical(arch).key


def test_branches_of_a_node_are_swapped() -> None:
    """Also Luo et al.'s augmentation: the two (op, input) pairs of a block."""
    space = NASNetSpace((3, 8, 8), 3, cells=1, filters=4, blocks=2, combine=("add",))
    script = script_of(space)
    one = space.sample(np.random.default_rng(3))
    sentence = script.write(one)
    assert sentence[:2] != sentence[2:4]
    assert (*sentence[2:4], *sentence[:2], *sentence[4:]) in script.twins(one)
    nodes = (Node(0, "input"), Node(1, "relu", (0,)), Node(2, "add", (0, 1)))
    arch = Architecture("own", (("net", Graph(nodes)),))

    class Same:
        def canonical(self, arch: Architecture) -> Architecture:
            return arch

    written: Any = GraphScript(Same())  # type: ignore[arg-type]
    assert written.twins(arch) == [("input()/0", "relu()/1", "-1", "add()/2", "-1", "-2", "|")]
    assert script_of(MACRO).twins(MACRO.decode("11101222")) == [
        tuple(f"'{digit}'" for digit in "11110222"),
    ]


# --- the network ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def learnt() -> tuple[Words, Floats, Codec]:
    """40 sentences of 8 words of 3; the value is the share of the third."""
    words = np.random.default_rng(0).integers(1, 4, size=(40, 8))
    y = np.asarray((words == 3).mean(axis=1))
    return words, y, fit(words, y, 4, SMALL, seed=0)


ANY = np.repeat([[False, True, True, True]], 8, axis=0)


def test_what_was_encoded_is_decoded_again(learnt: tuple[Words, Floats, Codec]) -> None:
    words, _, codec = learnt
    codes = codec.encode(words)
    assert codes.shape == (40, 8, 32)
    np.testing.assert_allclose(codes.norm(dim=-1).numpy(), 1, rtol=1e-5)
    assert (codec.decode(codes, ANY) == words).mean() > 0.95
    own = codec.log_likelihood(codes[0], words)
    assert int(np.argmax(own)) == 0


def test_the_predictor_generalises(learnt: tuple[Words, Floats, Codec]) -> None:
    others = np.random.default_rng(1).integers(1, 4, size=(100, 8))
    found = learnt[2].predict(learnt[2].encode(others))
    assert np.corrcoef(found, (others == 3).mean(axis=1))[0, 1] > 0.9


def test_the_gradient_leads_up(learnt: tuple[Words, Floats, Codec]) -> None:
    """The predicted value grows with the step, and what is decoded is better."""
    words, y, codec = learnt
    codes = codec.encode(words)
    slope = codec.gradient(codes)
    np.testing.assert_allclose(slope.norm(dim=-1).amax(dim=-1).numpy(), 1, rtol=1e-5)
    values = [codec.predict(codec.ascended(codes, slope, step)) for step in (0, 0.1, 0.3, 1)]
    assert (np.diff(values, axis=0) > 0).all()
    decoded = codec.decode(codec.ascended(codes, slope, 1.0), ANY)
    assert (decoded == 3).mean() > y.mean() + 0.2


def test_decoding_keeps_to_what_is_allowed(learnt: tuple[Words, Floats, Codec]) -> None:
    words, _, codec = learnt
    allowed = ANY.copy()
    allowed[0] = [False, True, False, False]
    allowed[5] = [True, False, False, False]  # the end
    decoded = codec.decode(codec.encode(words), allowed)
    assert set(decoded[:, 0].tolist()) == {1}
    assert not decoded[:, 5:].any()
    assert decoded[:, :5].all()


def test_sentences_of_several_lengths() -> None:
    """What stands behind an end changes nothing: not the code, the value or the likelihood."""
    rng = np.random.default_rng(0)
    words = rng.integers(1, 4, size=(30, 6))
    words[np.arange(6) >= rng.integers(2, 7, size=30)[:, None]] = 0
    y = (words == 3).sum(axis=1) / 6
    codec = fit(words, y, 4, Training(32, 150, 0.01), seed=1)
    codes = codec.encode(words)
    assert ((codes.norm(dim=-1) > 0).numpy() == (words > 0)).all()
    assert (codec.decode(codes, np.ones((6, 4), dtype=bool)) == words).all(axis=1).mean() > 0.8
    assert np.isfinite(codec.predict(codec.ascended(codes, codec.gradient(codes), 5.0))).all()


def test_a_fit_is_a_function_of_its_arguments() -> None:
    words = np.random.default_rng(0).integers(1, 4, size=(20, 5))
    y, training = np.linspace(0, 1, 20), Training(8, 5)
    before, threads = torch.get_rng_state(), torch.get_num_threads()
    found = []
    for seed in (1, 1, 2):
        codec = fit(words, y, 4, training, seed)
        found.append(codec.predict(codec.encode(words)).tolist())
        torch.rand(3)
    assert found[0] == found[1] != found[2]
    torch.set_rng_state(before)
    fit(words, y, 4, training, 3)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.get_num_threads() == threads


def test_a_network_that_diverges_says_so() -> None:
    words = np.ones((5, 2), dtype=np.int64)
    with pytest.raises(Unfit, match="diverged"):
        fit(words, np.full(5, np.nan), 2, Training(4, 2), 0)


# --- the search ----------------------------------------------------------------------------------------

TINY = NAO(initial=12, new=12, pool=40, seeds=8, updates=50, hidden=32, learning_rate=0.01)


def test_it_is_ahead_of_random() -> None:
    searches = [make(searcher, ERROR) for searcher in (TINY, RandomSearch())]
    for search in searches:
        run(search, 48, few_twos)
    nao, random = ([trial.values["error"] for trial in search.trials] for search in searches)
    assert np.mean(nao[24:]) < np.mean(random[24:]) - 3
    assert min(nao) < min(random)
    origins = [trial.proposal.origin for trial in searches[0].trials]
    assert set(origins[:12]) == {"sample"}
    assert origins[12:24].count("gradient") > 6


@pytest.mark.parametrize("k", [1, 3])
def test_a_cold_ask_is_a_warm_one(k: int) -> None:
    """In the middle of a batch, from a new state that only the folds made."""
    quick = NAO(initial=6, new=5, pool=9, seeds=4, updates=10, hidden=8)
    warm = make(quick, OBJECTIVES[2], in_flight=k)
    run(warm, 22)
    for n in (6, 9, 15, 21):
        cold = make(quick, OBJECTIVES[2], in_flight=k)
        for trial in warm.trials[:n]:
            cold.restore(trial)
        assert not cold._state.memo
        assert cold.ask() == warm.trials[n].proposal


@pytest.mark.parametrize(
    "space",
    [ChainSpace((1, 8, 8), widths=(4, 8), stem=4, head=8), DARTSSpace((3, 8, 8), 3, cells=3, filters=4)],
    ids=["chain", "darts"],
)
def test_proposals_are_valid_in_other_spaces(space: Any) -> None:
    """Where sentences cannot be read they are neighbours of the parent, whose nodes keep their ids."""
    params = (Objective("params", maximize=True, exact=lambda a, s: s.cost(a).params),)
    quick = NAO(initial=10, new=6, pool=6, seeds=3, updates=30, hidden=16, learning_rate=0.01)
    search = make(quick, params, space)
    assert run(search, 22) is None
    led = [trial for trial in search.trials if trial.proposal.origin == "gradient"]
    assert len(led) >= 6
    for trial in led:
        space.check(trial.architecture)
        (parent,) = trial.proposal.parents
        old = search.trials[parent].architecture.graphs[0][1]
        kept = {node.id for node in old} & {node.id for node in trial.architecture.graphs[0][1]}
        assert len(kept) >= 2


@pytest.mark.parametrize(
    ("evaluate", "origin"),
    [
        (lambda trial: Failure("crash", "boom"), "sample"),
        (lambda trial: {"error": 1.0}, "mutate: all targets are equal"),
        (lambda trial: {"error": 1.0} if trial.id < 3 else Failure("oom"), "mutate: 3 successes are too few"),
    ],
)
def test_where_nothing_is_learnt_the_best_are_mutated(evaluate: Any, origin: str) -> None:
    search = make(TINY, ERROR)
    assert run(search, 20, evaluate) is None
    assert {trial.proposal.origin for trial in search.trials[12:]} == {origin}


def test_beyond_a_batch_the_best_are_mutated() -> None:
    """One seed and a short pool: the gradient does not fill the batch."""
    search = make(NAO(12, 12, 2, 1, 30, 16, 0.01), ERROR)
    run(search, 24, few_twos)
    origins = [trial.proposal.origin for trial in search.trials[12:]]
    led = origins.count("gradient")
    assert led <= 2
    assert set(origins[led:]) == {f"mutate: the gradient led to {led} new ones"}


def test_what_is_beyond_a_measured_limit_is_no_seed() -> None:
    """Feasible trials come first, whatever the others' losses."""

    def evaluate(trial: Trial) -> Mapping[str, float]:
        return {"error": float(sum(digits(trial))), "twos": float(digits(trial).count(2))}

    objectives = (Objective("error"), Objective("twos", maximize=True, limit=3))
    search = make(NAO(20, 20, 20, 3, 60, 16, 0.01), objectives)
    run(search, 40, evaluate)
    seeds = {parent for trial in search.trials[20:] for parent in trial.proposal.parents}
    best = sorted(search.trials[:20], key=lambda t: (max(0, 3 - t.values["twos"]), t.values["error"]))
    assert seeds & {trial.id for trial in best[:3]}
    assert all(search.trials[seed].values["twos"] >= 2 for seed in seeds if seed < 20)


def test_other_seeds_give_other_batches() -> None:
    searches = [make(TINY, ERROR, seed=seed) for seed in (0, 0, 1)]
    for search in searches:
        run(search, 14, few_twos)
    assert proposals(searches[0]) == proposals(searches[1]) != proposals(searches[2])


def test_a_scalarisation_says_who_is_best() -> None:
    """Of error and twos the error alone: seeds are those of least error."""
    objectives = (Objective("error"), Objective("twos", maximize=True))
    weights = {"kind": "weighted_sum", "weights": {"error": 1, "twos": 0}}
    search = make(NAO(15, 5, 5, 2, 20, 8, scalarisation=weights), objectives)
    run(search, 16, lambda trial: {"error": float(sum(digits(trial))), "twos": float(digits(trial).count(2))})
    places = np.argsort([trial.values["error"] for trial in search.trials[:15]], kind="stable")
    assert search.trials[15].proposal.parents[0] in places[:4]
