"""What NASNet's and DARTS's spaces share: ops against torch by hand, and stacks."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from nas.architecture import Architecture
from search_spaces import cell_ops as ops
from search_spaces.darts import DARTS_V2, DARTSSpace
from search_spaces.modules import Network
from search_spaces.nasnet import NASNetSpace
from search_spaces.operations import Operation
from search_spaces.plan import Placed
from search_spaces.stacking import NORMAL, REDUCTION, Copy, staged


def built(operation: Operation, shape: tuple[int, ...], stride: int, width: int) -> Network:
    params = () if operation.place else (("stride", stride), ("width", width))
    return Network([Placed("x", operation.fragments(params, (shape,), stride, width), (-1,))])


def test_factorized_reduction_sees_every_place() -> None:
    """Two strided 1x1 convolutions, the second one place off; then batch norm (quark0/darts)."""
    torch.manual_seed(0)
    model = built(ops.PREPARE, (4, 6, 8), 2, 6)
    x = torch.randn(2, 4, 6, 8)
    weights = dict(model.named_parameters())
    y = x.relu()
    even = F.conv2d(y, weights["x.even.weight"], stride=2)
    odd = F.conv2d(y[:, :, 1:, 1:], weights["x.odd.weight"], stride=2)
    expected = F.batch_norm(torch.cat([even, odd], 1), None, None, training=True)
    torch.testing.assert_close(model(x), expected)
    assert model(x).shape == (2, 6, 3, 4)


@pytest.mark.parametrize("kernel", [3, 5])
@pytest.mark.parametrize("stride", [1, 2])
def test_a_separable_convolution_is_strided_once(kernel: int, stride: int) -> None:
    torch.manual_seed(0)
    model = built(ops.separable(kernel), (4, 7, 7), stride, 6)
    y = x = torch.randn(3, 4, 7, 7)
    weights = dict(model.named_parameters())
    for layer, step in ((0, stride), (1, 1)):
        depthwise = weights[f"x.{layer}.depthwise.weight"]
        y = F.conv2d(y.relu(), depthwise, stride=step, padding=kernel // 2, groups=depthwise.shape[0])
        y = F.conv2d(y, weights[f"x.{layer}.pointwise.conv.weight"])
        y = F.batch_norm(y, None, None, training=True)
    torch.testing.assert_close(model(x), y)


def test_a_dilated_separable_convolution_by_hand() -> None:
    torch.manual_seed(0)
    model = built(ops.separable(5, layers=1, dilation=2), (4, 9, 9), 2, 4)
    x = torch.randn(3, 4, 9, 9)
    weights = dict(model.named_parameters())
    y = F.conv2d(x.relu(), weights["x.0.depthwise.weight"], stride=2, padding=4, dilation=2, groups=4)
    y = F.batch_norm(F.conv2d(y, weights["x.0.pointwise.conv.weight"]), None, None, training=True)
    torch.testing.assert_close(model(x), y)


@pytest.mark.parametrize(
    ("operation", "shape", "stride", "width", "layers"),
    [
        (ops.SKIP, (4, 6, 6), 1, 4, []),
        (ops.SKIP, (4, 6, 6), 1, 6, ["relu", "conv", "batch_norm"]),
        (ops.SKIP, (4, 6, 6), 2, 4, ["relu", "conv", "shift", "conv", "concat", "batch_norm"]),
        (ops.IDENTITY, (4, 6, 6), 1, 4, []),
        (ops.IDENTITY, (4, 6, 6), 2, 4, ["relu", "conv", "batch_norm"]),
        (ops.MATCH, (4, 6, 6), 1, 4, []),
        (ops.MATCH, (4, 6, 6), 1, 6, ["conv", "batch_norm"]),
        (ops.MATCH, (4, 6, 6), 2, 4, ["conv", "shift", "conv", "concat", "batch_norm"]),
        (ops.pooling("max_pool", 3), (4, 6, 6), 2, 4, ["max_pool"]),
        (ops.pooling("avg_pool", 3), (4, 6, 6), 1, 6, ["avg_pool", "conv", "batch_norm"]),
        (ops.convolutions((3, 3), share=0.25), (4, 6, 6), 2, 8, ["relu", "conv", "batch_norm"] * 3),
        (ops.convolutions((3, 3), share=0.25), (4, 6, 6), 2, 3, ["relu", "conv", "batch_norm"]),
        (ops.convolutions((1, 3), (3, 1), share=0.375), (4, 6, 6), 1, 8, ["relu", "conv", "batch_norm"] * 4),
        (ops.thin_convolutions(7), (4, 6, 6), 2, 4, ["relu", "conv", "conv", "batch_norm"]),
    ],
)  # fmt: skip
def test_layers_of_ops(
    operation: Operation, shape: tuple[int, ...], stride: int, width: int, layers: list[str]
) -> None:
    fragment = operation.fragments((), (shape,), stride, width)
    assert [layer.kind for layer in fragment.layers] == layers
    assert fragment.shape == (width, *(-(-side // stride) for side in shape[1:]))


def test_each_reduction_doubles_the_width() -> None:
    assert staged(5, (1, 3), 8) == (
        Copy(NORMAL, 8), Copy(REDUCTION, 16), Copy(NORMAL, 16), Copy(REDUCTION, 32), Copy(NORMAL, 32),
    )  # fmt: skip


def copies(space: Any, arch: Architecture) -> dict[str, tuple[int, ...]]:
    """Output shapes of the copies of cells, by name."""
    return {
        placed.name: placed.part.shape
        for placed in space.plan(arch)
        if placed.name.split(".")[0] in (NORMAL, REDUCTION) and "pre" not in placed.name
    }


def test_names_and_shapes_of_the_cifar_template() -> None:
    space = DARTSSpace(cells=8, filters=4)
    assert copies(space, space.decode(DARTS_V2)) == {
        "normal.0": (16, 32, 32), "normal.1": (16, 32, 32), "reduction.0": (32, 16, 16),
        "normal.2": (32, 16, 16), "normal.3": (32, 16, 16), "reduction.1": (64, 8, 8),
        "normal.4": (64, 8, 8), "normal.5": (64, 8, 8),
    }  # fmt: skip


def test_names_and_shapes_of_the_imagenet_template() -> None:
    space = NASNetSpace(
        (3, 96, 96), template="imagenet", cells=1, filters=8, blocks=1, ops=["sep3"], combine=["add"]
    )
    arch = space.decode("sep3:0+sep3:1 / sep3:0+sep3:1")
    assert copies(space, arch) == {
        "reduction.0": (2, 24, 24), "reduction.1": (4, 12, 12), "normal.0": (8, 12, 12),
        "reduction.2": (16, 6, 6), "normal.1": (16, 6, 6), "reduction.3": (32, 3, 3), "normal.2": (32, 3, 3),
    }  # fmt: skip


@pytest.mark.parametrize("skip", [False, True])
def test_what_the_cell_behind_a_reduction_reads(skip: bool) -> None:
    """research/slim/nets/nasnet/nasnet.py, `skip_reduction_layer_input`: with it, the output of the cell two
    before the reduction cell, else that of the cell before it."""
    space = NASNetSpace(
        (3, 16, 16), cells=2, filters=4, blocks=1, ops=["sep3"], combine=["add"],
        skip_reduction_layer_input=skip,
    )  # fmt: skip
    plan = space.plan(space.decode("sep3:0+sep3:1 / sep3:0+sep3:1"))
    places = {placed.name: placed for placed in plan}

    def read(name: str) -> list[str]:
        """The cells or the stem whose outputs a cell reads, whatever prepares them."""
        found = []
        for source in places[name].inputs:
            placed = plan[source]
            found.append(plan[placed.inputs[0]].name if "pre" in placed.name else placed.name)
        return found

    assert read("normal.0") == ["stem", "stem"]
    assert read("normal.1") == ["normal.0", "stem"]
    assert read("reduction.0") == ["normal.1", "normal.0"]
    assert read("normal.2") == ["reduction.0", "normal.0" if skip else "normal.1"]
    assert read("normal.3") == ["normal.2", "reduction.0"]


def test_darts_reads_the_older_cell_first() -> None:
    space = DARTSSpace((3, 16, 16), cells=3, filters=4)
    plan = space.plan(space.decode(DARTS_V2))
    names = [placed.name for placed in plan]
    assert [plan[i].name for i in plan[names.index("normal.0")].inputs] == ["normal.0.pre0", "normal.0.pre1"]
    sources = {placed.name: plan[placed.inputs[0]].name for placed in plan if "pre" in placed.name}
    assert sources == {
        "normal.0.pre0": "stem", "normal.0.pre1": "stem",
        "reduction.0.pre0": "stem", "reduction.0.pre1": "normal.0",
        "reduction.1.pre0": "normal.0", "reduction.1.pre1": "reduction.0",
    }  # fmt: skip


def test_an_older_output_that_is_twice_as_large_is_reduced() -> None:
    space = NASNetSpace((3, 8, 8), cells=1, filters=4, blocks=1, ops=["sep3"], combine=["add"])
    plan = space.plan(space.decode("sep3:0+sep3:1 / sep3:0+sep3:1"))
    kinds = {
        placed.name: Counter(layer.kind for layer in placed.part.layers)  # type: ignore[union-attr]
        for placed in plan
        if "pre" in placed.name
    }
    assert {name for name, layers in kinds.items() if layers["shift"]} == {"normal.1.pre1", "normal.2.pre1"}
    assert "normal.0.pre1" not in kinds  # the first cell takes the stem as it is
