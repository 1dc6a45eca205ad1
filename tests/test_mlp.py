"""Networks for tables: the contract, counts in closed form, and what each layer is made of."""

from __future__ import annotations

from collections import Counter
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from spaces_contract import SpaceContract

from nas.architecture import Architecture, Graph, InvalidArchitecture, Node
from search_spaces.mlp import MLPSpace
from search_spaces.plan import flattened


class TestDefaults(SpaceContract):
    def make(self) -> MLPSpace:
        return MLPSpace()


class TestDeepNarrowOnes(SpaceContract):
    def make(self) -> MLPSpace:
        return MLPSpace((1,), 2, depth=(6, 9), widths=(3, 5), activations=("gelu", "tanh", "hard_swish"))


class TestOfOneWidth(SpaceContract):
    """Small enough that the contract walks through all of it."""

    def make(self) -> MLPSpace:
        return MLPSpace((5,), 3, depth=(1, 4), widths=(8,), activations=("relu", "silu"))


class TestWithoutResidualBlocks(SpaceContract):
    def make(self) -> MLPSpace:
        return MLPSpace((7,), 4, depth=(1, 3), residual=False)


# --- counts -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("depth", "widths", "activations"),
    [((1, 1), (8,), ("relu",)), ((1, 6), (8, 16, 32), ("relu", "silu")), ((4, 30), (3, 5), ("gelu",))],
)
def test_size_in_closed_form(
    depth: tuple[int, int], widths: tuple[int, ...], activations: tuple[str, ...]
) -> None:
    """The first layer has w a choices, each further one w a dense and a residual ones."""
    w, a = len(widths), len(activations)
    depths = range(depth[0], depth[1] + 1)
    with_blocks = MLPSpace((4,), 3, depth, widths, activations)
    assert with_blocks.size() == sum(w * a * (w * a + a) ** (n - 1) for n in depths)
    dense_only = MLPSpace((4,), 3, depth, widths, activations, residual=False)
    assert dense_only.size() == sum((w * a) ** n for n in depths)


def spelled(arch: Architecture) -> tuple[tuple[Any, ...], ...]:
    return tuple((node.op, *dict(node.params).values()) for node in arch.graph().nodes[1:])


def test_samples_are_uniform_over_all_networks() -> None:
    space = MLPSpace((4,), 3, depth=(1, 3), widths=(4, 8), activations=("relu", "tanh"))
    dense = [("dense", a, w) for w in (4, 8) for a in ("relu", "tanh")]
    later = [*dense, ("residual", "relu"), ("residual", "tanh")]
    all_of_them = [x for n in range(3) for x in product(dense, *[later] * n)]
    rng = np.random.default_rng(0)
    drawn = Counter(spelled(space.sample(rng)) for _ in range(30 * len(all_of_them)))
    assert set(drawn) <= set(all_of_them)
    assert stats.chisquare([drawn[x] for x in all_of_them]).pvalue > 0.01


# --- networks ---------------------------------------------------------------------------------------


def mlp(*layers: tuple[str, dict[str, Any]]) -> Architecture:
    nodes = [Node(0, "input")]
    for op, params in layers:
        nodes.append(Node(len(nodes), op, (nodes[-1].id,), tuple(params.items())))
    return Architecture("mlp", (("net", Graph(tuple(nodes))),))


DENSE_16 = ("dense", {"activation": "relu", "width": 16})
DENSE_32 = ("dense", {"activation": "silu", "width": 32})
BLOCK = ("residual", {"activation": "relu"})


def test_layers_and_parameters_by_hand() -> None:
    space = MLPSpace((5,), 3)
    arch = mlp(DENSE_16, BLOCK, DENSE_32)
    layers = flattened(space.plan(arch))
    assert [y.kind for y in layers] == [
        *("linear", "batch_norm", "relu"),
        *("linear", "batch_norm", "relu", "linear", "batch_norm", "add"),
        *("linear", "batch_norm", "silu"),
        "linear",
    ]
    assert [y.shape for y in layers] == [(16,)] * 9 + [(32,)] * 3 + [(3,)]
    assert layers[8].inputs == (7, 2)
    dense, block, narrow, head = 5 * 16 + 16 + 32, 2 * (16 * 16 + 16 + 32), 16 * 32 + 32 + 64, 32 * 3 + 3
    assert space.cost(arch).params == dense + block + narrow + head
    assert space.cost(arch).macs == 5 * 16 + 2 * 16 * 16 + 16 * 32 + 32 * 3


def test_a_block_whose_last_scale_is_zero_changes_nothing() -> None:
    space = MLPSpace((5,), 3)
    torch.manual_seed(0)
    with_block, without = space.build(mlp(DENSE_16, BLOCK)), space.build(mlp(DENSE_16))
    weights = with_block.state_dict()
    without.load_state_dict({name: weights[name] for name in without.state_dict()})
    torch.nn.init.zeros_(with_block.get_submodule("net.n2.b.bn").weight)
    x = torch.randn(4, 5)
    for mode in (True, False):
        torch.testing.assert_close(with_block.train(mode)(x), without.train(mode)(x))


# --- what cannot be ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ((BLOCK, DENSE_16), r"node 1 \(residual\): a layer here must be one of dense, but got 'residual'"),
        (
            (DENSE_16, ("dense", {"activation": "relu", "width": 7})),
            r"node 2 \(dense\): its parameters must be",
        ),
        ((DENSE_16, ("residual", {"activation": "elu"})), r"node 2 \(residual\): its parameters .*'elu'"),
        (
            (DENSE_16, ("residual", {"activation": "relu", "width": 16})),
            r"node 2 \(residual\): its parameters",
        ),
        ((DENSE_16, ("conv", {})), r"node 2 \(conv\): a layer here must be one of dense, residual, but got"),
        ((), r"node 0 \(input\): a chain must have 1 to 6 layers, but it ends after 0"),
        ((DENSE_16,) * 7, r"node 7 \(dense\): a chain must have 1 to 6 layers"),
    ],
)
def test_a_chain_that_breaks_a_rule_names_node_and_rule(layers: Any, message: str) -> None:
    with pytest.raises(InvalidArchitecture, match=message):
        MLPSpace((5,), 3).check(mlp(*layers))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"input_shape": (1, 8, 8)}, r"input_shape must be \(features,\), all positive, but got \(1, 8, 8\)"),
        ({"input_shape": (0,)}, "input_shape must be"),
        ({"classes": 1}, "`classes >= 2` must hold"),
        ({"depth": (0, 3)}, r"`1 <= smallest depth` must hold, but got depth=\(0, 3\)"),
        ({"depth": (4, 3)}, "depth must be two integers"),
        ({"widths": ()}, r"widths must be different positive integers, but got \[\]"),
        ({"widths": (8, 8)}, "widths must be"),
        ({"widths": (8.0,)}, "widths must be"),
        ({"activations": ()}, "activations must be different ones of relu, .*, but got"),
        ({"activations": ("relu", "elu")}, r"activations must be .* got \['relu', 'elu'\]"),
        ({"activations": ("relu", "relu")}, "activations must be different"),
        ({"residual": 1}, "residual must be true or false, but got 1"),
    ],
)
def test_senseless_arguments_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MLPSpace(**arguments)
