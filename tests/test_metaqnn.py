# ruff: noqa: E501
"""MetaQNN: its rules held against an independent reading of them, and against what its authors published."""

from __future__ import annotations

import re
from itertools import product
from typing import Any

import numpy as np
import pytest
from scipy import stats
from spaces_contract import SpaceContract

from nas.architecture import Architecture, Graph, InvalidArchitecture, Node
from search_spaces.metaqnn import PAPER, MetaQNNSpace
from search_spaces.plan import flattened

CIFAR = MetaQNNSpace((3, 32, 32), 10, **PAPER)
SVHN = MetaQNNSpace((3, 28, 28), 10, **PAPER | {"depth": (0, 12)})


class TestDefaults(SpaceContract):
    def make(self) -> MetaQNNSpace:
        return MetaQNNSpace()


class TestOnOddColourImages(SpaceContract):
    """Small representations are reached, so that there are FC layers and sides that pools do not divide."""

    def make(self) -> MetaQNNSpace:
        return MetaQNNSpace((3, 11, 17), 3, depth=(3, 6), filters=(4, 6), units=(8, 5, 3))


class TestOnSeries(SpaceContract):
    def make(self) -> MetaQNNSpace:
        return MetaQNNSpace((2, 19), 4, depth=(1, 4), filters=(4,), units=(8, 6))


# --- the rules, once more ----------------------------------------------------------------------------


def allowed(words: tuple[str, ...], side: int, most_fc: int) -> bool:
    """The rules of the authors' state_enumerator.py on a whole list of words, layer by layer."""
    last, units, fcs = "start", 10**9, 0
    for word in words:
        kind = re.match("[A-Z]+", word)[0]  # type: ignore[index]
        numbers = [int(n) for n in re.findall(r"\d+", word)]
        bucket = 8 if side > 7 else 4 if side > 3 else 1
        if kind in ("C", "GAP") and last not in ("start", "C", "P"):
            return False
        if kind == "C" and not numbers[1] < bucket:
            return False
        if kind == "P":
            kernel, stride = numbers
            if last != "C" or not kernel < bucket:
                return False
            side = int(np.ceil((side - kernel + 1) / stride))
        if kind == "FC":
            from_maps = last in ("start", "C", "P") and bucket <= 4
            if not (from_maps or last == "FC") or fcs == most_fc or numbers[0] > units:
                return False
            units, fcs = numbers[0], fcs + 1
        last = kind
    return True


def every(depth: int, side: int, most_fc: int = 2) -> set[str]:
    words = [f"C({width},{kernel},1)" for width in (4, 8) for kernel in (1, 3, 5)]
    words += ["P(5,3)", "P(3,2)", "P(2,2)", "FC(9)", "FC(7)", "GAP(3)"]
    found: set[str] = set()
    chains: list[tuple[str, ...]] = [()]
    for _ in range(depth + 1):
        found |= {f"[{', '.join([*chain, 'SM(3)'])}]" for chain in chains}
        chains = [(*c, word) for c, word in product(chains, words) if allowed((*c, word), side, most_fc)]
    return found


def small(side: int, depth: int, **arguments: Any) -> MetaQNNSpace:
    return MetaQNNSpace((1, side, side + 2), 3, (0, depth), filters=(4, 8), units=(9, 7), **arguments)


@pytest.mark.parametrize("side", [1, 3, 4, 5, 7, 8, 9, 13, 32])
def test_the_space_is_what_the_rules_allow(side: int) -> None:
    """By walking over neighbours from one sample, and by its size."""
    depth = 3
    space = small(side, depth)
    wanted = every(depth, side)
    start = space.sample(np.random.default_rng(0))
    reached, waiting = {space.code(start)}, [start]
    while waiting:
        for other in space.neighbors(waiting.pop()):
            if (code := space.code(other)) not in reached:
                reached.add(code)
                waiting.append(other)
    assert reached == wanted
    assert space.size() == len(wanted)


@pytest.mark.parametrize(("most_fc", "side"), [(0, 5), (1, 5), (3, 2)])
def test_the_number_of_fc_layers(most_fc: int, side: int) -> None:
    assert small(side, 4, most_fc=most_fc).size() == len(every(4, side, most_fc))


def test_every_allowed_network_can_be_built() -> None:
    space = small(9, 3)
    for code in every(3, 9):
        space.check(space.decode(code))


def test_samples_are_uniform_over_all_written_forms() -> None:
    space, rng = small(5, 2), np.random.default_rng(1)
    index = {code: i for i, code in enumerate(sorted(every(2, 5)))}
    counts = np.zeros(len(index))
    for _ in range(40 * len(index)):
        counts[index[space.code(space.sample(rng))]] += 1
    assert stats.chisquare(counts).pvalue > 0.01


def test_fc_layers_are_at_least_as_wide_as_there_are_classes() -> None:
    """`possible_fc_sizes = [i for i in [512, 256, 128] if i >= output_states]`."""
    space = MetaQNNSpace((3, 4, 4), 200, **PAPER)
    space.check(space.decode("[FC(256), SM(200)]"))
    with pytest.raises(InvalidArchitecture, match="128"):
        space.decode("[FC(128), SM(200)]")


# --- what was published --------------------------------------------------------------------------------

BEST = {
    "[C(512,5,1), C(256,3,1), C(256,5,1), C(256,3,1), P(5,3), C(512,3,1), C(512,5,1), P(2,2), SM(10)]": 11.18,
    "[C(128,1,1), C(512,3,1), C(64,1,1), C(128,3,1), P(2,2), C(256,3,1), P(2,2), C(512,3,1), P(3,2), SM(10)]": 2.17,
    "[C(128,3,1), C(128,1,1), C(512,5,1), P(2,2), C(128,3,1), P(2,2), C(64,3,1), C(64,5,1), SM(10)]": 2.42,
    "[C(256,3,1), C(256,3,1), P(5,3), C(256,1,1), C(128,3,1), P(2,2), C(128,3,1), SM(10)]": 1.10,
    "[C(128,5,1), C(512,3,1), P(2,2), C(128,1,1), C(128,5,1), P(3,2), C(512,3,1), SM(10)]": 1.66,
}  # fmt: skip
"""The paper's five best networks on CIFAR-10 (appendix) with their millions of parameters."""


@pytest.mark.parametrize(("code", "millions"), BEST.items())
def test_the_papers_numbers_of_parameters(code: str, millions: float) -> None:
    """They are those of the convolutions' kernels: without biases and the last layer."""
    arch = CIFAR.decode(code)
    assert CIFAR.code(arch) == code
    kernels = sum(
        layer.params - layer.shape[0] for layer in flattened(CIFAR.plan(arch)) if layer.kind == "conv"
    )
    assert round(kernels / 1e6, 2) == millions


def test_layers_are_those_of_the_authors_prototxt() -> None:
    """static/prototxt/cifar10_0.prototxt of their repository, data, dropout and loss aside."""
    code = "[C(128,5,1), C(512,3,1), P(2,2), C(128,1,1), C(128,5,1), P(3,2), C(512,3,1), SM(10)]"
    layers = flattened(CIFAR.plan(CIFAR.decode(code)))
    conv = [(y.shape[0], y.kernel[0], y.stride[0], y.padding[0]) for y in layers if y.kind == "conv"]
    assert conv == [(128, 5, 1, 2), (512, 3, 1, 1), (128, 1, 1, 0), (128, 5, 1, 2), (512, 3, 1, 1)]
    assert all(y.bias for y in layers if y.kind == "conv")
    kinds = [y.kind for y in layers]
    conv_relu = ["conv", "relu"]
    assert kinds == [
        *(conv_relu * 2), "max_pool", *(conv_relu * 2), "max_pool", *conv_relu, "flatten", "linear"
    ]  # fmt: skip
    assert [y.shape[1:] for y in layers if y.kind == "max_pool"] == [(16, 16), (7, 7)]


def test_global_average_pooling_is_a_convolution_a_relu_and_a_mean() -> None:
    """libs/caffe/string_to_model.py; the softmax layer behind it is linear, from classes to classes."""
    arch = CIFAR.decode("[C(64,3,1), GAP(10), SM(10)]")
    layers = flattened(CIFAR.plan(arch))[2:]
    assert [y.kind for y in layers] == ["conv", "relu", "global_pool", "flatten", "linear"]
    assert [y.shape for y in layers] == [(10, 32, 32), (10, 32, 32), (10, 1, 1), (10,), (10,)]


SITE = [
    "[C(256,3,1), C(128,1,1), C(128,3,1), C(128,3,1), P(5,3), C(128,3,1), SM(10)]",
    "[C(64,3,1), C(128,3,1), P(5,3), C(256,3,1), P(3,2), FC(512), FC(128), SM(10)]",
    "[C(64,5,1), C(512,3,1), C(512,1,1), C(64,1,1), C(128,5,1), P(3,2), C(512,5,1), C(512,3,1), P(5,3), SM(10)]",
    "[C(128,5,1), C(512,3,1), P(2,2), C(128,1,1), C(128,5,1), P(3,2), SM(10)]",
    "[C(64,3,1), C(64,3,1), P(5,3), C(256,3,1), C(128,5,1), SM(10)]",
]  # fmt: skip
"""Networks for CIFAR-10 on the authors' page (index.html of their repository)."""

SITE_SVHN = [
    "[C(64,1,1), C(128,3,1), C(64,5,1), C(512,5,1), C(256,1,1), C(256,5,1), C(128,1,1), C(256,5,1), P(3,2), C(512,5,1), C(256,3,1), C(128,3,1), SM(10)]",
    "[C(128,5,1), C(128,3,1), C(64,5,1), P(5,3), C(128,3,1), C(512,5,1), C(256,5,1), C(128,5,1), C(128,5,1), C(128,3,1), SM(10)]",
    "[C(128,3,1), P(2,2), C(64,1,1), C(256,1,1), C(256,5,1), C(128,1,1), C(128,5,1), C(512,3,1), C(256,5,1), C(256,1,1), C(128,3,1), C(64,1,1), SM(10)]",
]  # fmt: skip

REPLAY = [
    "[SM(10)]",
    "[GAP(10), SM(10)]",
    "[C(256,1,1), C(64,5,1), D(1,1), P(3,2), GAP(10), SM(10)]",
    "[C(64,5,1), P(3,2), D(1,3), C(512,3,1), P(2,2), D(2,3), C(512,3,1), SM(10)]",
    "[C(512,5,1), P(5,3), D(1,5), C(512,5,1), P(3,2), D(2,5), C(256,3,1), P(3,2), D(3,5), FC(128), D(4,5), SM(10)]",
    "[C(256,5,1), C(256,3,1), D(1,6), P(5,3), C(64,3,1), D(2,6), P(3,2), C(512,1,1), D(3,6), C(512,1,1), FC(128), D(4,6), FC(128), D(5,6), SM(10)]",
    "[C(64,5,1), C(512,5,1), D(1,7), C(256,1,1), P(3,2), D(2,7), C(64,5,1), P(5,3), D(3,7), C(512,3,1), C(64,1,1), D(4,7), P(3,2), FC(256), D(5,7), FC(256), D(6,7), SM(10)]",
    "[C(512,1,1), P(2,2), D(1,7), C(256,3,1), C(128,3,1), D(2,7), P(2,2), C(256,1,1), D(3,7), C(128,1,1), C(128,3,1), D(4,7), C(64,1,1), P(3,2), D(5,7), FC(128), D(6,7), SM(10)]",
    "[C(512,1,1), C(512,5,1), D(1,8), C(512,3,1), P(3,2), D(2,8), C(64,1,1), P(5,3), D(3,8), C(256,1,1), C(256,3,1), D(4,8), C(128,1,1), C(512,3,1), D(5,8), FC(256), D(6,8), FC(128), D(7,8), SM(10)]",
    "[C(512,1,1), P(3,2), D(1,5), C(64,1,1), C(256,3,1), D(2,5), C(64,5,1), P(2,2), D(3,5), C(64,1,1), C(64,1,1), D(4,5), C(64,3,1), C(128,1,1), D(5,5), C(128,3,1), GAP(10), SM(10)]",
    "[C(256,1,1), C(128,3,1), D(1,5), C(256,1,1), C(64,3,1), D(2,5), C(64,3,1), C(256,5,1), D(3,5), C(512,3,1), C(128,1,1), D(4,5), C(256,5,1), C(64,1,1), D(5,5), C(512,5,1), GAP(10), SM(10)]",
]  # fmt: skip
"""Of the runs that their repository holds (test/needed_for_testing/replay_database.csv): side 32, depth 12."""


@pytest.mark.parametrize("code", SITE)
def test_published_networks_for_cifar10(code: str) -> None:
    assert CIFAR.code(CIFAR.decode(code)) == code


@pytest.mark.parametrize("code", SITE_SVHN)
def test_published_networks_for_svhn(code: str) -> None:
    assert SVHN.code(SVHN.decode(code)) == code


@pytest.mark.parametrize("code", REPLAY)
def test_networks_of_the_authors_runs(code: str) -> None:
    space = MetaQNNSpace((3, 32, 32), 10, **PAPER | {"depth": (0, 12)})
    assert space.code(space.decode(code)) == re.sub(r"D\(\d,\d\), ", "", code)


# --- the notation ---------------------------------------------------------------------------------------


def test_codes_of_samples_round_trip() -> None:
    rng = np.random.default_rng(2)
    for space in (CIFAR, SVHN, MetaQNNSpace()):
        for _ in range(50):
            arch = space.sample(rng)
            assert space.decode(space.code(arch)) == arch


def test_blanks_do_not_matter() -> None:
    assert CIFAR.code(CIFAR.decode(" [ C(64, 3, 1),P(2,2) ,  SM(10) ] ")) == "[C(64,3,1), P(2,2), SM(10)]"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"^a code must be \[layer, …, SM\(10\)\], but got ''"),
        ("[]", "a code must be"),
        ("C(64,3,1), SM(10)", "a code must be"),
        ("[C(64,3,1)]", "a code must be"),
        ("[C(64,3,1), SM(100)]", "a code must be"),
        ("[C(64,3,1), SM(10)", "a code must be"),
        ("[SM(10), SM(10)]", r"a layer must be .*, but got 'SM\(10\)'"),
        ("[C(64,3,1), BN, SM(10)]", r"a layer must be C\(filters,kernel,1\), .* but got 'BN'"),
        ("[C(64,3,2), SM(10)]", r"but got 'C\(64,3,2\)'"),
        ("[C(64,3), SM(10)]", r"but got 'C\(64,3\)'"),
        ("[C(64,3,1), P(2), SM(10)]", r"but got 'P\(2\)'"),
        ("[C(64,3,1), GAP(9), SM(10)]", r"but got 'GAP\(9\)'"),
        ("[C(64,3,1), , SM(10)]", r"but got 'C\(64,3,1\), '|but got 'C\(64,3,1\),'"),
        ("[C(64,-3,1), SM(10)]", r"but got 'C\(64,-3,1\)'"),
        ("[C(60,3,1), SM(10)]", r"^node 1 \(conv\): its parameters must be one of .*'width': 60"),
        ("[P(2,2), SM(10)]", r"^node 1 \(pool\): .* one of conv, gap, but got 'pool' \(behind input at repr.* 32"),
        ("[C(64,3,1), P(2,2), P(2,2), SM(10)]", r"^node 3 \(pool\): .* but got 'pool' \(behind pool at .* 16\)"),
        ("[C(64,3,1), P(2,2), FC(128), SM(10)]", r"^node 3 \(fc\): .* but got 'fc' \(behind pool at .* 16\)"),
        ("[C(64,3,1), P(5,3), C(64,3,1), P(3,2), C(64,5,1), SM(10)]", r"^node 5 \(conv\): .*'kernel': 5.* 4\)"),
        ("[C(64,3,1), P(5,3), C(64,3,1), P(5,3), C(64,1,1), SM(10)]",
         r"^node 5 \(conv\): a layer here must be one of gap, fc, but got 'conv' \(behind pool at .* 2\)"),
        ("[C(64,3,1), P(5,3), C(64,3,1), P(5,3), FC(128), FC(256), SM(10)]", r"^node 6 \(fc\): its param.*256"),
        ("[C(64,3,1), P(5,3), C(64,3,1), P(5,3), FC(128), FC(128), FC(128), SM(10)]",
         r"^node 7 \(fc\): a layer here must be one of none, but got 'fc' \(behind fc\)"),
        ("[C(64,3,1), P(5,3), C(64,3,1), P(5,3), FC(128), GAP(10), SM(10)]", r"^node 6 \(gap\): .* 'gap'"),
        ("[GAP(10), C(64,3,1), SM(10)]", r"^node 2 \(conv\): .* none, but got 'conv' \(behind gap\)"),
        (f"[{'C(64,3,1), ' * 19}SM(10)]", r"^node 19 \(conv\): a chain must have 0 to 18 layers, .* after 19"),
    ],
)  # fmt: skip
def test_a_wrong_code_is_refused(text: str, message: str) -> None:
    with pytest.raises(InvalidArchitecture, match=message):
        CIFAR.decode(text)


def test_code_refuses_what_is_not_of_the_space() -> None:
    arch = Architecture("metaqnn", (("net", Graph((Node(0, "input"), Node(1, "pool", (0,))))),))
    with pytest.raises(InvalidArchitecture, match=r"node 1 \(pool\)"):
        CIFAR.code(arch)


# --- constructor arguments -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"input_shape": (8,)}, r"input_shape must be \(channels, length\) or \(channels, height, width\)"),
        ({"depth": (3, 2)}, "depth must be two integers"),
        ({"filters": (8, 8)}, r"filters must be different positive integers, but got \[8, 8\]"),
        ({"filters": (8.0,)}, "filters must be"),
        ({"kernels": (0,)}, "kernels must be different positive"),
        ({"kernels": (2,)}, r"kernels must be odd and smaller than 8, but got \[2\]"),
        ({"kernels": (9,)}, "kernels must be odd and smaller than 8"),
        ({"units": (True,)}, "units must be"),
        ({"pools": ((2, 3),)}, r"pools must be .*`1 <= stride <= kernel < 8`.* but got \[\(2, 3\)\]"),
        ({"pools": ((1, 1),)}, "`2 <= kernel`"),
        ({"pools": ((8, 2),)}, "pools must be"),
        ({"pools": ((2,),)}, "pools must be"),
        ({"pools": ((2, 2.0),)}, "pools must be"),
        ({"pools": ((2, 2), [2, 2])}, "pools must be different"),
        ({"most_fc": -1}, "`most_fc >= 0` must hold, but got most_fc=-1"),
        ({"most_fc": True}, "most_fc"),
    ],
)
def test_senseless_arguments_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MetaQNNSpace(**arguments)


def test_a_study_file_can_give_all_arguments() -> None:
    from nas import registry

    lists = {name: [*map(list, value)] if name == "pools" else value for name, value in PAPER.items()}
    options = {"input_shape": [3, 32, 32], "classes": 10, **lists}
    space = registry.make("space", "search_spaces.metaqnn:MetaQNNSpace", options)
    assert space.size() == CIFAR.size()
