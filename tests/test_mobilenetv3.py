"""The space of Once-for-all networks: published subnets, torchvision's modules, MSuNAS's integers."""

from __future__ import annotations

import csv
import gzip
import json
from collections import Counter
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from spaces_contract import SpaceContract
from torch import nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode
from torchvision.models.mobilenetv3 import InvertedResidualConfig, MobileNetV3

from nas.architecture import Architecture, InvalidArchitecture
from search_spaces.fragments import elements
from search_spaces.genes import WHOLE
from search_spaces.mobilenetv3 import STRIDES, MobileNetV3Space
from search_spaces.plan import flattened

IMAGENET = (3, 224, 224)
SMALLEST = {"ks": [3] * 20, "e": [3] * 20, "d": [2] * 5}
LARGEST = {"ks": [7] * 20, "e": [6] * 20, "d": [4] * 5}


def config(ks: Any, e: Any, d: Any, r: Any) -> str:
    return json.dumps({"ks": ks, "e": e, "d": d, "r": r})


class TestMobileNetV3(SpaceContract):
    def make(self) -> MobileNetV3Space:
        return MobileNetV3Space(
            (3, 16, 16),
            widths=(8, 8, 12),
            depths=(1, 2),
            strides=(1, 2, 1, 2),
            squeeze=(False, True, True),
            activations=("relu", "relu", "hard_swish"),
            stem=8,
            head=(24, 16),
        )


class TestMobileNetV3OnOddImages(SpaceContract):
    """Sides that strides do not divide, two stages, one of them as wide as the stem."""

    def make(self) -> MobileNetV3Space:
        return MobileNetV3Space(
            (1, 13, 17),
            classes=3,
            widths=(8, 12),
            depths=(1, 2),
            kernels=(1, 5),
            expands=(1, 2),
            resolutions=(7, 13, 20),
            strides=(1, 1, 3),
            squeeze=(True, False),
            activations=("relu6", "silu"),
            stem=8,
            head=(16, 8),
        )


class TestMobileNetV3OfSeries(SpaceContract):
    """Small enough to count."""

    def make(self) -> MobileNetV3Space:
        return MobileNetV3Space(
            (2, 21),
            classes=2,
            widths=(8, 8),
            depths=(1, 2),
            kernels=(3, 5),
            expands=(2, 3),
            strides=(2, 1, 2),
            squeeze=(False, True),
            activations=("relu", "hard_swish"),
            stem=4,
            head=(8, 8),
        )


# --- published networks ------------------------------------------------------------------------------


def test_the_published_network_of_595m_macs() -> None:
    """flops@595M_top1@80.0_finetune@75 of the authors: 9.1M params and 595M MACs by their README, at 236
    (net.config and run.config of it are in Alibaba-MIIL/ImageNet21K, src_files/models/ofa)."""
    space = MobileNetV3Space((3, 236, 236), 1000, width_mult=1.2)
    kernels = [3, 5, 3, *(5, 5, 3, 5), *(7, 5, 3, 5), *(3, 5, 7, 3), *(3, 3, 5, 3)]
    expands = [3, 4, 3, *(4, 4, 6, 3), *(6, 6, 3, 4), *(6, 6, 6, 4), *(6, 6, 6, 3)]
    cost = space.cost(space.decode(config(kernels, expands, [3, 4, 4, 4, 4], 236)))
    assert (round(cost.params / 1e6, 1), round(cost.macs / 1e6)) == (9.1, 595)


def test_the_smallest_network_as_torchprofile_counts_it() -> None:
    """89,421,520 for kernel 3, expansion 3, depth 2, resolution 192, measured with the authors' code in
    issue 10 of zhijian-liu/torchprofile. It counts products element by element (h-swish, and the scaling of
    squeeze-and-excitation) and what means put out (of one axis, then the other) too; there are 10 classes.
    """
    space = MobileNetV3Space((3, 192, 192), 10)
    arch = space.decode(config(**SMALLEST, r=192))
    layers = flattened(space.plan(arch))
    more = 0
    for layer in layers:
        if layer.kind in ("hard_swish", "scale"):
            more += elements(layer.shape)
        if layer.kind == "global_pool":
            channels, height, _ = layers[layer.inputs[0]].shape
            more += channels * (height + 1)
    assert space.cost(arch).macs + more == 89_421_520


def test_layers_are_those_of_the_published_latency_table(nas_data: Path) -> None:
    """MSuNAS's table has one row for every MBConv of both supernets, at resolutions 96, 100 … 256."""
    keys = ("h_in", "c_in", "h_out", "c_out", "expand", "kernel", "stride", "idskip", "se")
    with gzip.open(nas_data / "latency_lut_i7_8700k_mbconv.csv.gz", "rt") as file:
        rows = [row for row in csv.DictReader(file) if row["op"] == "MBConv"]
    found = set()
    for width_mult in (1.0, 1.2):
        space = MobileNetV3Space(
            (3, 256, 256), resolutions=range(96, 257, 4), width_mult=width_mult, strides=STRIDES
        )
        for kernel, expand, resolution in product((3, 5, 7), (3, 4, 6), space.resolutions):
            arch = space.decode(config([kernel] * 20, [expand] * 20, [4] * 5, resolution))
            found |= mbconvs(space, arch)
    assert found == {tuple(int(row[key]) for key in keys) for row in rows}
    assert len(found) == len(rows) == 3952


def mbconvs(space: MobileNetV3Space, arch: Architecture) -> set[tuple[int, ...]]:
    """(side in, channels in, side out, channels out, expand, kernel, stride, skip, se) of each MBConv."""
    layers = flattened(space.plan(arch))
    blocks: dict[str, list[Any]] = {}
    for layer in layers:
        graph, *rest = layer.name.split(".")
        if graph == "first" or graph.startswith("stage"):
            blocks.setdefault(graph if graph == "first" else f"{graph}.{rest[0]}", []).append(layer)
    rows = set()
    for block in blocks.values():
        c_in, side_in, _ = layers[block[0].inputs[0]].shape
        c_out, side_out, _ = block[-1].shape
        depthwise = next(layer for layer in block if layer.groups > 1)
        kinds = {layer.kind for layer in block}
        what = depthwise.shape[0] // c_in, depthwise.kernel[0], depthwise.stride[0]
        rows.add((side_in, c_in, side_out, c_out, *what, "add" in kinds, "scale" in kinds))
    return rows


# --- the same from torchvision's modules -------------------------------------------------------------


def from_torchvision(space: MobileNetV3Space, arch: Architecture) -> nn.Module:
    """The network, without resizing, built of torchvision's inverted residuals."""
    block = partial(InvertedResidualConfig, dilation=1, width_mult=1.0)
    blocks = [
        block(space.stem, kernel=3, expanded_channels=space.stem, out_channels=space.stem, use_se=False,
              activation="RE", stride=1)
    ]  # fmt: skip
    before = space.stem
    given = json.loads(space.code(arch))
    for stage, depth in enumerate(given["d"]):
        for layer in range(depth):
            expand = given["e"].pop(0)
            blocks.append(
                block(
                    before,
                    kernel=given["ks"].pop(0),
                    expanded_channels=expand * before,
                    out_channels=space.widths[stage],
                    use_se=stage in (1, 3, 4),
                    activation="RE" if stage < 2 else "HS",
                    stride=1 if layer else (2, 2, 2, 1, 2)[stage],
                )
            )
            before = space.widths[stage]
    return MobileNetV3(blocks, space.mixed, space.classes, norm_layer=nn.BatchNorm2d)


@pytest.mark.parametrize("width_mult", [1.0, 1.2])
def test_networks_are_those_of_torchvisions_modules(width_mult: float) -> None:
    """Params, MACs and logits of random points. The one difference is a bias of the mixing layer."""
    space = MobileNetV3Space((3, 128, 128), 100, resolutions=[128], width_mult=width_mult)
    assert space.strides == (2, 2, 2, 2, 1, 2)
    rng = np.random.default_rng(0)
    torch.manual_seed(0)
    x = torch.randn(2, 3, 128, 128)
    for _ in range(3):
        arch = space.sample(rng)
        ours, theirs = space.build(arch).eval(), from_torchvision(space, arch).eval()
        cost = space.cost(arch)
        assert cost.params == sum(p.numel() for p in theirs.parameters()) - space.mixed
        with FlopCounterMode(display=False) as counter:
            theirs.to("meta")(torch.empty(1, 3, 128, 128, device="meta"))
        assert cost.flops == counter.get_total_flops()
        theirs = from_torchvision(space, arch).eval()
        for module in theirs.modules():
            if isinstance(module, nn.BatchNorm2d):
                nn.init.uniform_(module.weight, 0.5, 1.5)
                nn.init.normal_(module.bias, std=0.1)
                nn.init.uniform_(module.running_var, 0.5, 1.5)
        nn.init.zeros_(theirs.classifier[0].bias)
        weights = [value for name, value in theirs.state_dict().items() if name != "classifier.0.bias"]
        own = ours.state_dict()
        assert len(own) == len(weights)
        ours.load_state_dict(
            {name: value.reshape(own[name].shape) for name, value in zip(own, weights, strict=True)}
        )
        with torch.no_grad():
            y, z = theirs(x), ours(x)
        assert float((y - z).abs().max()) <= 1e-5 * float(y.abs().max())
        assert float(y.std()) > 0


# --- the space ---------------------------------------------------------------------------------------


def test_size_of_the_papers_space() -> None:
    """((3 x 3)^2 + (3 x 3)^3 + (3 x 3)^4)^5, about 2 x 10^19, for each of 25 resolutions (17 in MSuNAS)."""
    space = MobileNetV3Space(IMAGENET, 1000)
    assert space.resolutions == tuple(range(128, 225, 4))
    assert space.size() == 25 * (9**2 + 9**3 + 9**4) ** 5
    assert 2e19 < space.size() / 25 < 2.5e19
    msunas = MobileNetV3Space((3, 256, 256), 1000, resolutions=range(192, 257, 4))
    assert msunas.size() == 17 * 7371**5
    assert len(msunas.integers(msunas.sample(np.random.default_rng(0)))) == 46


def test_sampling_draws_every_gene_uniformly() -> None:
    space = MobileNetV3Space()
    rng = np.random.default_rng(0)
    drawn = [space.values(space.sample(rng)) for _ in range(2500)]
    counts = Counter(values[WHOLE][0] for values in drawn)
    assert stats.chisquare([counts[side] for side in space.resolutions]).pvalue > 1e-4
    for name in space.graphs:
        depths = Counter(values[name][0] for values in drawn)
        assert stats.chisquare([depths[depth] for depth in (2, 3, 4)]).pvalue > 1e-4
        for layer in range(4):
            there = [values[name] for values in drawn if values[name][0] > layer]
            kernels = Counter(values[1 + layer] for values in there)
            expands = Counter(values[5 + layer] for values in there)
            assert stats.chisquare([kernels[kernel] for kernel in (3, 5, 7)]).pvalue > 1e-4
            assert stats.chisquare([expands[expand] for expand in (3, 4, 6)]).pvalue > 1e-4


def test_layers_beyond_the_depth_do_not_matter() -> None:
    space = MobileNetV3Space()
    rng = np.random.default_rng(0)
    arch = space.sample(rng)
    depths = json.loads(space.code(arch))["d"]
    choices = 4 * sum(depths) + 2 * 5 + len(space.resolutions) - 1
    assert len({other.key for other in space.neighbors(arch)}) == len(space.neighbors(arch)) == choices
    whole = json.loads(space.code(arch)) | {"ks": [7] * 20, "e": [6] * 20}
    short = whole | {"ks": [7] * sum(depths), "e": [6] * sum(depths)}
    assert space.decode(json.dumps(whole)) == space.decode(json.dumps(short))


def test_a_deeper_stage_keeps_the_names_and_shapes_of_all_weights() -> None:
    space = MobileNetV3Space()
    shallow = space.decode(config([5] * 20, [4] * 20, [2, 2, 2, 2, 2], 32))
    deep = space.decode(config([5] * 20, [4] * 20, [2, 4, 2, 2, 2], 32))
    shapes = {name: p.shape for name, p in space.build(shallow).named_parameters()}
    grown = {name: p.shape for name, p in space.build(deep).named_parameters()}
    assert shapes.items() < grown.items()
    new = {name.rpartition(".n")[0] + ".n" + name.split(".n")[1][0] for name in grown.keys() - shapes.keys()}
    assert new == {"stage2.n3", "stage2.n4"}


# --- resolution --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "resolutions", "strides"),
    [
        ((3, 224, 224), range(128, 225, 4), (2, 2, 2, 2, 1, 2)),
        ((3, 32, 32), (20, 24, 28, 32), (1, 1, 1, 2, 1, 2)),
        ((1, 28, 28), (16, 20, 24, 28), (1, 1, 1, 2, 1, 2)),
        ((1, 13, 40), (8, 12, 13), (1, 1, 1, 1, 1, 2)),
        ((1, 8, 8), (8,), (1, 1, 1, 1, 1, 2)),
        ((1, 3, 3), (3,), (1, 1, 1, 1, 1, 1)),
    ],
)
def test_default_resolutions_and_strides(shape: Any, resolutions: Any, strides: Any) -> None:
    space = MobileNetV3Space(shape)
    assert space.resolutions == tuple(resolutions)
    assert space.strides == strides
    arch = space.decode(config(**SMALLEST, r=space.resolutions[0]))
    last = space.plan(arch)[-2].part.shape
    assert min(last[1:]) >= min(4, *shape[1:])


def test_the_network_resizes_its_input() -> None:
    space = MobileNetV3Space((3, 13, 18), resolutions=(8, 13, 26))
    torch.manual_seed(0)
    x = torch.randn(2, 3, 13, 18)
    for side, sides in ((8, (8, 11)), (26, (26, 36))):
        resized = space.build(space.decode(config(**SMALLEST, r=side))).eval()
        native = MobileNetV3Space((3, *sides), resolutions=[side], strides=space.strides)
        plain = native.build(native.decode(config(**SMALLEST, r=side))).eval()
        plain.load_state_dict(resized.state_dict())
        seen = F.interpolate(x, sides, mode="bilinear", align_corners=False)
        torch.testing.assert_close(resized(x), plain(seen))
    native_plan = space.plan(space.decode(config(**SMALLEST, r=13)))
    assert [placed.name for placed in native_plan][:2] == ["stem", "first"]


# --- texts and integers ------------------------------------------------------------------------------


def test_every_configuration_and_all_integers_come_back() -> None:
    rng = np.random.default_rng(0)
    space = MobileNetV3Space(IMAGENET, 1000)
    for _ in range(200):
        arch = space.sample(rng)
        assert space.decode(space.code(arch)) == arch
        assert space.of_integers(space.integers(arch)) == arch
        assert space.code(space.decode(space.code(arch))) == space.code(arch)
        assert all(type(number) is int for number in space.integers(arch))


def test_integers_are_those_of_msunas() -> None:
    """Depth, 4 kernels, 4 expansions of each stage, by place among the choices, padded with zeros; the
    resolution (search_space/ofa.py of mikelzc1990/nsganetv2). The first two of each search are the smallest
    and the largest network."""
    space = MobileNetV3Space((3, 256, 256), 1000, resolutions=range(192, 257, 4))
    assert space.integers(space.decode(config(**SMALLEST, r=192))) == [0] * 46
    assert space.integers(space.decode(config(**LARGEST, r=256))) == [2] * 45 + [16]
    kernels, expands = [3, 5, 7, 3, 7, 7, 7, 7, 3, 3, 5, 5, 5, 3], [6, 4, 3, 3, 4, 6, 6, 6, 3, 3, 4, 3, 3, 6]
    arch = space.decode(config(kernels, expands, [3, 2, 4, 2, 3], 212))
    assert space.integers(arch) == [
        *(1, 0, 1, 2, 0, 2, 1, 0, 0),
        *(0, 0, 2, 0, 0, 0, 1, 0, 0),
        *(2, 2, 2, 2, 0, 2, 2, 2, 0),
        *(0, 0, 1, 0, 0, 0, 1, 0, 0),
        *(1, 1, 1, 0, 0, 0, 0, 2, 0),
        5,
    ]
    unused = space.integers(arch)
    unused[4] = unused[8] = 2  # the fourth layer of the first stage, which is not there
    assert space.of_integers(unused) == arch


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "a configuration must be JSON, but"),
        ("[1]", r"a configuration must be \{\"ks\": .*but got '\[1\]'"),
        ('{"ks": [], "e": [], "d": []}', "a configuration must be"),
        (config(3, [3] * 20, [4] * 5, 32), "a configuration must be"),
        (config([3] * 20, [3] * 20, [4] * 4, 32), r'"d" must have 5 depths, but got \[4, 4, 4, 4\]'),
        (
            config([3] * 20, [3] * 20, [4, 4, 5, 4, 4], 32),
            r"stage3: depth must be one of \(2, 3, 4\), but got 5",
        ),
        (config([3] * 20, [3] * 20, [4, 4, "4", 4, 4], 32), "stage3: depth must be one of .* but got '4'"),
        (
            config([3] * 11, [3] * 20, [2] * 5, 32),
            '"ks" must have 10 entries, one a layer, or 20, but got 11',
        ),
        (config([3] * 10, [3] * 9, [2] * 5, 32), '"e" must have 10 entries, one a layer, or 20, but got 9'),
        (
            config([3] * 9 + [4], [3] * 10, [2] * 5, 32),
            r"stage5: kernel 2 must be one of \(3, 5, 7\), but got 4",
        ),
        (config([3] * 10, [3.0, *[3] * 9], [2] * 5, 32), r"stage1: expand 1 must be one of .* but got 3.0"),
        (config([3] * 10, [[3], *[3] * 9], [2] * 5, 32), r"stage1: expand 1 must be one of .* but got \[3\]"),
        (
            config([3] * 10, [3] * 10, [2] * 5, 33),
            r"architecture: resolution must be one of \(20, .* but got 33",
        ),
        (config([3] * 10, [3] * 10, [2] * 5, [32]), r"resolution must be one of .* but got \[32\]"),
    ],
)
def test_a_wrong_configuration_names_stage_and_rule(text: str, message: str) -> None:
    with pytest.raises(InvalidArchitecture, match=message):
        MobileNetV3Space().decode(text)


@pytest.mark.parametrize(
    ("integers", "message"),
    [
        ([0] * 45, "there must be 46 integers, but got 45"),
        ([3] + [0] * 45, "depth must be 0 to 2, but got 3 in"),
        ([0] * 45 + [4], "resolution must be 0 to 3, but got 4 in"),
        ([0, -1] + [0] * 44, "kernel 1 must be 0 to 2, but got -1 in"),
    ],
)
def test_wrong_integers_are_refused(integers: list[int], message: str) -> None:
    with pytest.raises(InvalidArchitecture, match=message):
        MobileNetV3Space().of_integers(integers)


# --- arguments and forms -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"input_shape": (8,)}, r"input_shape must be \(channels, length\) or \(channels, height, width\)"),
        ({"input_shape": (3, 8.0, 8)}, "input_shape must be"),
        (
            {"strides": (2, 2, 2, 2, 2, 2)},
            r"side of 20, but of input_shape \(3, 32, 32\) .*give smaller strides",
        ),
        ({"strides": (2, 2)}, r"strides must be 6 positive integers, the stem's first, but got \[2, 2\]"),
        ({"widths": (8, 0, 8, 8, 8)}, r"widths must be positive integers, but got \[8, 0, 8, 8, 8\]"),
        ({"widths": (8, 8)}, "one entry a stage, but got 2, 5 and 5"),
        ({"widths": (8,), "squeeze": (True,), "activations": ("relu",)}, "other than 5 stages, but got 1"),
        ({"depths": (0, 2)}, r"depths must be different integers of at least 1, but got \[0, 2\]"),
        ({"depths": ()}, "depths must be different"),
        ({"kernels": (3, 4)}, r"kernels must be different odd integers of at least 1, but got \[3, 4\]"),
        ({"expands": (3, 3)}, "expands must be different integers"),
        ({"expands": (2.5,)}, r"expands must be different integers of at least 1, but got \[2.5\]"),
        ({"resolutions": ()}, "resolutions must be different"),
        ({"resolutions": (32.0,)}, "resolutions must be different"),
        ({"squeeze": (0, 1, 0, 1, 1)}, r"squeeze must be true or false, but got \[0, 1, 0, 1, 1\]"),
        ({"activations": ("relu",) * 4 + ("swish",)}, "activations must be of"),
        ({"stem": 0}, "stem must be a positive integer and head two of them, but got stem=0"),
        ({"head": (960,)}, r"head two of them, but got stem=16, head=\[960\]"),
        ({"width_mult": 0}, "`width_mult > 0` must hold, but got width_mult=0"),
        ({"width_mult": float("nan")}, "`width_mult > 0` must hold"),
        ({"crossover": "none"}, "crossover must be one of"),
    ],
)
def test_senseless_arguments_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MobileNetV3Space(**arguments)


def set_param(place: int, **changed: Any) -> Any:
    return lambda nodes: nodes[place]["params"].update(changed)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (set_param(2, kernel=9), r"node 2 \(mbconv\): kernel 2 must be one of \(3, 5, 7\), but got 9"),
        (set_param(2, expand=True), r"node 2 \(mbconv\): expand 2 must be one of \(3, 4, 6\), but got True"),
        (set_param(1, se=False), r"node 1 \(mbconv\): .*'se': True\}, but got .*'se': False\}"),
        (set_param(1, activation="hard_swish"), r"node 1 \(mbconv\): .*'relu'.*but got .*'hard_swish'"),
        (lambda nodes: nodes[2].update(inputs=[0]), r"node 2 \(mbconv\): .* inputs \(1,\) .* but got \(0,\)"),
        (lambda nodes: nodes.pop(), r"depth must be one of \(2, 3, 4\), but got 1"),
        (lambda nodes: nodes[2]["params"].pop("kernel"), r"node 2 \(mbconv\): parameter 'kernel' is missing"),
    ],
)
def test_a_form_that_is_not_written_by_the_space_is_refused(change: Any, message: str) -> None:
    space = MobileNetV3Space()
    data = space.decode(config(**SMALLEST, r=32)).to_dict()
    change(data["graphs"][1]["nodes"])
    with pytest.raises(InvalidArchitecture, match=message):
        space.check(Architecture.from_dict(data))


@pytest.mark.parametrize(
    "params", [{}, {"resolution": 33}, {"resolution": 32.0}, {"resolution": 32, "width": 1}]
)
def test_a_wrong_resolution_is_refused(params: dict[str, Any]) -> None:
    space = MobileNetV3Space()
    data = space.decode(config(**SMALLEST, r=32)).to_dict() | {"params": params}
    with pytest.raises(InvalidArchitecture, match="resolution"):
        space.check(Architecture.from_dict(data))


def test_the_cost_of_a_wrong_type_does_not_depend_on_what_was_seen_before() -> None:
    space = MobileNetV3Space((3, 16, 16))
    arch = space.sample(np.random.default_rng(0))
    space.cost(arch)
    data = arch.to_dict()
    for graph in data["graphs"]:
        for node in graph["nodes"]:
            if node["params"].get("se") is True:
                node["params"]["se"] = 1
    with pytest.raises(InvalidArchitecture, match="'se' must be one of"):
        space.cost(Architecture.from_dict(data))
