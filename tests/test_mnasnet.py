"""MNasNet's space: the authors' and torchvision's networks as points of it."""

from __future__ import annotations

import re
from collections import Counter
from math import prod
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from scipy import stats
from spaces_contract import SpaceContract
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from torchvision.models._utils import _make_divisible

from nas.architecture import Architecture, InvalidArchitecture
from nas.protocols import NothingToChange
from search_spaces.mnasnet import LAYERS, WIDTHS, MNasNetSpace
from search_spaces.mobile_blocks import divisible

IMAGENET = (3, 224, 224)

B1 = (
    "r1_k3_s11_e1_i32_o16_noskip r3_k3_s22_e3_i16_o24 r3_k5_s22_e3_i24_o40 r3_k5_s22_e6_i40_o80 "
    "r2_k3_s11_e6_i80_o96 r4_k5_s22_e6_i96_o192 r1_k3_s11_e6_i192_o320_noskip"
)
A1 = (
    "r1_k3_s11_e1_i32_o16_noskip r2_k3_s22_e6_i16_o24 r3_k5_s22_e3_i24_o40_se0.25 r4_k3_s22_e6_i40_o80 "
    "r2_k3_s11_e6_i80_o112_se0.25 r3_k5_s22_e6_i112_o160_se0.25 r1_k3_s11_e6_i160_o320"
)
SMALL = (
    "r1_k3_s11_e1_i8_o8 r1_k3_s22_e3_i8_o16 r2_k3_s22_e6_i16_o16 r4_k5_s22_e6_i16_o32_se0.25 "
    "r3_k3_s11_e6_i32_o32_se0.25 r3_k5_s22_e6_i32_o88_se0.25 r1_k3_s11_e6_i88_o144"
)
"""tensorflow/tpu, models/official/mnasnet/mnasnet_models.py (the small one's stem has 8 channels)."""

MOBILENET_V2 = (
    "r1_k3_s11_e1_i32_o16 r2_k3_s22_e6_i16_o24 r3_k3_s22_e6_i24_o32 r4_k3_s22_e6_i32_o64 "
    "r3_k3_s11_e6_i64_o96 r3_k3_s22_e6_i96_o160 r1_k3_s11_e6_i160_o320"
)
"""Sandler et al. 2018, table 2."""


def around(code: str, side: int = 224, **arguments: Any) -> tuple[MNasNetSpace, Architecture]:
    """A space with the widths of a code, for ImageNet, and the code's point in it."""
    widths = [[int(width)] for width in re.findall(r"_o(\d+)", code)]
    layers = [[1, 2, 3, 4]] * len(widths)
    strides = (2, 1, 2, 2, 2, 1, 2, 1)
    space = MNasNetSpace((3, side, side), 1000, widths, layers=layers, strides=strides, **arguments)
    return space, space.decode(code)


class Small(SpaceContract):
    nodes_a_change = 3  # a change of a block is one of all its layers, of which there are 3 at most


class TestMNasNet(Small):
    def make(self) -> MNasNetSpace:
        return MNasNetSpace(
            (3, 16, 16),
            widths=[8, [8, 12], [12, 16]],
            layers=[1, 2, [1, 3]],
            strides=(1, 2, 1, 2),
            stem=8,
            head=16,
        )


class TestMNasNetOnOddImages(Small):
    """Sides that strides do not divide, strides in other places, other choices and another activation."""

    def make(self) -> MNasNetSpace:
        return MNasNetSpace(
            (1, 13, 10),
            classes=3,
            widths=[[4, 6], [6, 9]],
            layers=[2, 2],
            ops=("sepconv", "mbconv2", "mbconv5"),
            kernels=(1, 3, 7),
            se_ratios=(0, 0.5, 1),
            strides=(2, 2, 3),
            stem=6,
            head=8,
            activation="hard_swish",
        )


class TestMNasNetOfSeries(Small):
    """Small enough to count."""

    def make(self) -> MNasNetSpace:
        return MNasNetSpace(
            (2, 21),
            classes=2,
            widths=[[4, 8], [4, 8]],
            layers=[[1, 2], [1, 2]],
            ops=("conv", "mbconv2"),
            se_ratios=(0,),
            strides=(1, 1, 2),
            stem=4,
            head=8,
        )


class TestMNasNetOfTheAuthors(SpaceContract):
    """Seven blocks of 432 forms and fewer, on digits."""

    nodes_a_change = 5

    def make(self) -> MNasNetSpace:
        return MNasNetSpace(
            (1, 8, 8), widths=[8, 8, 8, 16, 16, 24, 24], layers=[1, 2, 1, 1, 1, 1, 1], stem=8, head=16
        )


# --- published networks ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "arguments", "theirs", "params"),
    [
        (B1, {}, torchvision.models.mnasnet1_0, 4_383_312),
        (MOBILENET_V2, {"activation": "relu6"}, torchvision.models.mobilenet_v2, 3_504_872),
    ],
)
def test_torchvisions_networks_are_points(code: str, arguments: Any, theirs: Any, params: int) -> None:
    """The parameter counts are those of torchvision's documentation."""
    space, arch = around(code, **arguments)
    with torch.device("meta"):
        meta = theirs().eval()
    with FlopCounterMode(display=False) as counter:
        meta(torch.empty(1, *IMAGENET, device="meta"))
    cost = space.cost(arch)
    assert cost.params == params == sum(p.numel() for p in meta.parameters())
    assert cost.flops == counter.get_total_flops()
    assert same_logits(space.build(arch), theirs(), 96)


def same_logits(ours: nn.Module, theirs: nn.Module, side: int) -> bool:
    """Whether two networks compute the same in eval mode, once one has the other's weights, in order."""
    torch.manual_seed(0)
    for module in theirs.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.1)
            nn.init.normal_(module.running_mean, std=0.1)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    ours.load_state_dict(dict(zip(ours.state_dict(), theirs.state_dict().values(), strict=True)))
    x = torch.randn(2, 3, side, side)
    with torch.no_grad():
        y, z = theirs.eval()(x), ours.eval()(x)
    return bool((y - z).abs().max() <= 1e-5 * y.abs().max()) and bool(y.std() > 0)


@pytest.mark.parametrize(
    ("multiplier", "params", "macs"),
    [(1.4, 6.1, 591.5), (1, 3.9, 315.2), (0.75, 2.9, 226.7), (0.5, 2.1, 105.2), (0.35, 1.7, 63.2)],
)
def test_the_authors_network_is_as_large_as_they_say(multiplier: float, params: float, macs: float) -> None:
    """MnasNet-A1 at 224: the README of tensorflow/tpu, models/official/mnasnet, in millions.

    Its multiply-adds are 1 to 2.5 % more than those of convolutions and linear layers; the paper's 312 for
    multiplier 1 are these alone.
    """

    def scaled(found: re.Match[str]) -> str:
        return f"_{found[1]}{divisible(multiplier * int(found[2]))}"

    space, arch = around(re.sub(r"_(i|o)(\d+)", scaled, A1), stem=divisible(multiplier * 32))
    cost = space.cost(arch)
    assert round(cost.params / 1e6, 1) == params
    assert 0.975 * macs < cost.macs / 1e6 < macs
    if multiplier == 1:
        assert round(cost.macs / 1e6) == 312


def test_the_authors_small_network() -> None:
    """The same README: 2.0M parameters and 68M multiply-adds."""
    space, arch = around(SMALL, stem=8)
    cost = space.cost(arch)
    assert (round(cost.params / 1e6, 1), round(cost.macs / 1e6)) == (2.0, 68)


def test_channels_are_rounded_as_in_mobilenet() -> None:
    assert all(divisible(n / 4) == _make_divisible(n / 4, 8) for n in range(1, 4000))


# --- the space ---------------------------------------------------------------------------------------


def test_size_of_the_papers_space() -> None:
    """432 forms a block (section 4.1), fewer where rounding or the one layer that must stay merge choices:
    12 and 16 channels are both 16, 18 and 24 both 24, and 0 layers are 1."""
    space = MNasNetSpace(IMAGENET, 1000)
    forms = [space.graph_size(block) for block in space.graphs]
    assert forms == [48 * 2 * 2, 48 * 2 * 3, 432, 432, 432, 432, 48 * 3 * 2]
    assert space.size() == prod(forms)
    assert space.strides == (2, 1, 2, 2, 2, 1, 2, 1)
    assert [gene.choices for gene in space.genes["block3"]] == [
        ("conv", "sepconv", "mbconv3", "mbconv6"),
        (3, 5),
        (0.0, 0.25),
        (24, 32, 40),
        ("none", "identity", "pool"),
        (2, 3, 4),
    ]


def test_sampling_draws_every_gene_uniformly_and_independently() -> None:
    space = MNasNetSpace()
    rng = np.random.default_rng(0)
    drawn = [space.values(space.sample(rng)) for _ in range(2000)]
    for name, genes in space.genes.items():
        for place, gene in enumerate(genes):
            counts = Counter(values[name][place] for values in drawn)
            assert stats.chisquare([counts[choice] for choice in gene.choices]).pvalue > 1e-4
    pairs = Counter((values["block3"][0], values["block4"][0]) for values in drawn)
    assert stats.chisquare([*pairs.values(), *[0] * (16 - len(pairs))]).pvalue > 1e-4


def test_mutation_changes_one_gene_of_all_and_crossover_can_swap_blocks() -> None:
    space = MNasNetSpace(crossover="stage")
    rng = np.random.default_rng(1)
    places: Counter[tuple[str, int]] = Counter()
    for _ in range(840):
        arch = space.sample(rng)
        before, after = space.values(arch), space.values(space.mutate(arch, rng))
        changed = [(n, i) for n in before for i in range(6) if before[n][i] != after[n][i]]
        assert len(changed) == 1
        places[changed[0]] += 1
    assert len(places) == 42
    assert stats.chisquare(list(places.values())).pvalue > 1e-4
    for _ in range(20):
        a, b = space.sample(rng), space.sample(rng)
        child = space.values(space.crossover(a, b, rng))
        assert all(child[n] in (space.values(a)[n], space.values(b)[n]) for n in space.graphs)


def test_a_layer_more_at_the_end_keeps_the_names_of_all_weights() -> None:
    space, arch = around(B1)
    longer = space.decode(B1.replace("r3_k5_s22_e3", "r4_k5_s22_e3"))
    shapes = {name: p.shape for name, p in space.build(arch).named_parameters()}
    grown = {name: p.shape for name, p in space.build(longer).named_parameters()}
    assert shapes.items() < grown.items()
    assert {name.split(".")[0] for name in grown.keys() - shapes.keys()} == {"block3"}


def test_an_architecture_moves_to_inputs_of_another_size() -> None:
    small, large = MNasNetSpace((3, 32, 32), 10), MNasNetSpace(IMAGENET, 1000)
    rng = np.random.default_rng(0)
    for _ in range(5):
        arch = small.sample(rng)
        large.check(arch)
        weights = 1280 * 990 + 990
        assert large.cost(arch).params == small.cost(arch).params + weights


def test_every_code_comes_back() -> None:
    rng = np.random.default_rng(0)
    space = MNasNetSpace()
    for _ in range(200):
        arch = space.sample(rng)
        code = space.code(arch)
        assert space.decode(code) == arch
        assert space.code(space.decode(f" {code}\n")) == code
    for code in (B1, A1, MOBILENET_V2):
        space, arch = around(code)
        assert space.code(arch) == code


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("r1_k3_s11_e1_i32_o16_noskip ", ""), "a code must have 7 blocks, but got 6"),
        (("r3_k3", "r0_k3"), r"block2: layers must be one of \(1, 2, 3, 4\), but got 0"),
        (("r3_k3", "x3_k3"), "block2: a block must be like r3_k5_.*, but got 'x3_k3_s22_e3_i16_o24'"),
        (("_k3_s22", "_k7_s22"), r"block2: kernel must be one of \(3, 5\), but got 7"),
        (("s22_e3_i16", "s11_e3_i16"), "block2 must be 'r3_k3_s22_e3_i16_o24' here, but got 'r3_k3_s11_"),
        (("i16_o24", "i24_o24"), "block2 must be 'r3_k3_s22_e3_i16_o24' here, but got"),
        (("o24 ", "o32 "), r"block2: filters must be one of \(24,\), but got 32"),
        (("s22_e3_i16", "s22_e4_i16"), r"block2: op must be one of \('conv', .*\), but got 'mbconv4'"),
        (("s22_e3_i16", "s22_e0_i16"), "block2: op must be one of .*, but got 'mbconv0'"),
        (("o24 ", "o24_se0.5 "), r"block2: se must be one of \(0.0, 0.25\), but got 0.5"),
        (("o24 ", "o24_se0.250 "), "block2 must be .*se0.25' here, but got"),
        (("o24 ", "o24_skip "), "block2: a block must be like"),
        (("r3_k3", "r\u0663_k3"), "block2: a block must be like"),
    ],
)  # fmt: skip
def test_a_wrong_code_names_block_and_rule(change: tuple[str, str], message: str) -> None:
    with pytest.raises(InvalidArchitecture, match=message):
        around(B1)[0].decode(B1.replace(*change, 1))


# --- skips -------------------------------------------------------------------------------------------


def effect(space: MNasNetSpace, arch: Architecture) -> tuple[Any, ...]:
    """What a network computes, written without graphs: (op, kernel, se, width, skip) of each layer."""
    layers, before = [], space.stem
    for values, stride in zip(space.values(arch).values(), space.strides[1:], strict=True):
        *layer, skip, count = values
        width = layer[3]
        fits = width == before and (stride == 1 or skip == "pool")
        layers += [(*layer, skip if fits else "none"), *((*layer, skip) for _ in range(count - 1))]
        before = width
    return tuple(layers)


def test_keys_of_canonical_forms_are_equal_exactly_for_equal_networks() -> None:
    """All 2,304 forms of two blocks: skips around first layers do something where the widths agree only."""
    space = TestMNasNetOfSeries().make()
    start = space.sample(np.random.default_rng(0))
    found, waiting = {start}, [start]
    while waiting:
        new = set(space.neighbors(waiting.pop())) - found
        found |= new
        waiting += new
    by_values = {space.architecture(space.values(arch)) for arch in found}
    assert len(by_values) == space.size() == 48**2
    keys: dict[str, set[Any]] = {}
    for arch in by_values:
        # the end of one block and the start of the next must not be taken for each other
        marks = (*effect(space, arch), space.values(arch)["block1"][-1])
        keys.setdefault(space.canonical(arch).key, set()).add(marks)
    assert all(len(effects) == 1 for effects in keys.values())
    assert len(keys) == len(set.union(*keys.values())) < space.size()


def test_a_skip_that_does_not_fit_is_left_out() -> None:
    space = MNasNetSpace(
        (3, 8, 8), widths=[[8], [8, 16]], layers=[[1], [1]], strides=(1, 1, 2), stem=8, head=8
    )
    fitting = space.decode("r1_k3_s11_conv_i8_o8 r1_k3_s22_conv_i8_o8_pool")
    assert space.canonical(fitting) == fitting
    assert [n.op for n in fitting.graph("block2")] == ["input", "conv", "pool", "skip"]
    for second in ("o8", "o8_noskip", "o16", "o16_pool"):
        arch = space.decode(f"r1_k3_s11_conv_i8_o8 r1_k3_s22_conv_i8_{second}")
        assert [n.op for n in space.canonical(arch).graph("block2")] == ["input", "conv"]
        assert [n.op for n in space.canonical(arch).graph("block1")] == ["input", "conv", "skip"]
        assert space.cost(arch).params == space.cost(space.canonical(arch)).params


# --- strides and arguments ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "strides"),
    [
        (IMAGENET, (2, 1, 2, 2, 2, 1, 2, 1)),
        ((3, 128, 160), (2, 1, 2, 2, 2, 1, 2, 1)),
        ((3, 96, 96), (1, 1, 2, 2, 2, 1, 2, 1)),
        ((3, 32, 32), (1, 1, 1, 2, 2, 1, 2, 1)),
        ((1, 28, 28), (1, 1, 1, 2, 2, 1, 2, 1)),
        ((1, 16, 16), (1, 1, 1, 1, 2, 1, 2, 1)),
        ((1, 8, 8), (1, 1, 1, 1, 1, 1, 2, 1)),
        ((1, 3, 3), (1,) * 8),
    ],
)
def test_the_last_feature_map_keeps_sides_of_four(shape: tuple[int, ...], strides: tuple[int, ...]) -> None:
    space = MNasNetSpace(shape)
    assert space.strides == strides
    seen = [placed.part.shape for placed in space.plan(space.sample(np.random.default_rng(0)))]
    assert min(seen[-2][1:]) >= min(4, *shape[1:])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"input_shape": (8,)}, r"input_shape must be \(channels, length\) or \(channels, height, width\)"),
        ({"input_shape": (1, 8, 8), "strides": (2, 1, 2, 2, 2, 1, 2, 1)}, r"give smaller strides, or none"),
        ({"strides": (2, 2)}, r"strides must be 8 positive integers, the stem's first, but got \[2, 2\]"),
        ({"strides": (2, 0, 1, 1, 1, 1, 1, 1)}, "strides must be 8 positive integers"),
        ({"widths": (), "layers": ()}, "one entry a block, but got 0 widths and 0 layers"),
        ({"widths": (8, 8)}, "one entry a block, but got 2 widths and 7 layers"),
        ({"widths": (8, 8), "layers": (1, 1)}, "strides must be given for other than 7 blocks, but got 2"),
        ({"widths": [0, *WIDTHS[1:]]}, r"widths must be different integers of at least 1, but got \[0\]"),
        ({"widths": [[8, 8], *WIDTHS[1:]]}, r"widths must be different integers .*\[8, 8\]"),
        ({"widths": [[], *WIDTHS[1:]]}, "widths must be different"),
        ({"layers": [True, *LAYERS[1:]]}, "layers must be different"),
        ({"multipliers": (1.0, -1.0)}, r"multipliers must be positive, but got \[1.0, -1.0\]"),
        ({"multipliers": ()}, "multipliers must be positive"),
        ({"more": (0.5,)}, r"more must be integers, but got \[0.5\]"),
        ({"ops": ("mbconv1",)}, r"ops must be of conv, sepconv, mbconv2, mbconv3 …, but got \['mbconv1'\]"),
        ({"ops": ("dil",)}, "ops must be of"),
        ({"ops": ("conv", "conv")}, "op: choices must be one or more different values"),
        ({"kernels": (2, 3)}, r"kernels must be different odd integers of at least 1, but got \[2, 3\]"),
        ({"se_ratios": (0.3,)}, r"se_ratios must be of \[0.0, .*\], but got \[0.3\]"),
        ({"skips": ("max",)}, r"skips must be of \['none', 'identity', 'pool'\], but got \['max'\]"),
        ({"stem": 0}, r"stem must be different integers of at least 1, but got \[0\]"),
        ({"head": 0}, "head must be"),
        ({"activation": "elu"}, r"activation must be of \['relu', .*\], but got \['elu'\]"),
        ({"crossover": "none"}, "crossover must be one of"),
    ],
)  # fmt: skip
def test_senseless_arguments_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MNasNetSpace(**arguments)


def test_a_space_of_one_has_nothing_to_change() -> None:
    space = MNasNetSpace(
        (1, 8, 8),
        widths=[[8]],
        layers=[[1]],
        ops=["conv"],
        kernels=[3],
        se_ratios=[0],
        skips=["none"],
        strides=[1, 2],
    )
    arch = space.sample(np.random.default_rng(0))
    assert space.size() == 1
    with pytest.raises(NothingToChange):
        space.mutate(arch, np.random.default_rng(0))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda nodes: nodes[3]["params"].update(width=48),
            r"node 4 \(mbconv\): .* 'width': 40\}, but got .*48",
        ),
        (
            lambda nodes: nodes[2].update(inputs=[1, 1]),
            r"node 3 \(skip\): .* inputs \(1, 0\) .* but got \(1, 1\)",
        ),
        (lambda nodes: nodes.pop(), r"node 7 \(mbconv\): .* must have 5 nodes with these choices, but got 6"),
        (lambda nodes: nodes[1]["params"].pop("expand"), r"node 1 \(mbconv\): parameter 'expand' is missing"),
        (lambda nodes: nodes[1]["params"].update(activation="elu"), r"node 1 \(mbconv\): .*'elu'"),
        (
            lambda nodes: nodes[1].update(op="sepconv"),
            r"node 1 \(sepconv\): space 'mnasnet' writes 'mbconv' here",
        ),
    ],
)
def test_a_form_that_is_not_written_by_the_space_is_refused(change: Any, message: str) -> None:
    space, arch = around(B1)
    data = arch.to_dict()
    change(data["graphs"][2]["nodes"])
    with pytest.raises(InvalidArchitecture, match=message):
        space.check(Architecture.from_dict(data))
