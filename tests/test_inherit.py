"""Inherited weights: what is claimed to be exact is exact, and what each morphism does to the weights."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from nas.architecture import Architecture, Graph, Node
from nas.inherit import Inheritance, carried, inherit
from nas.inherit.morphisms import MORPHISMS, morphisms
from search_spaces.chain import ChainSpace
from search_spaces.darts import DARTS_V1, DARTSSpace
from search_spaces.modules import Network
from search_spaces.template import TemplateSpace
from tests.morphism_table import BEST, seen, written
from tests.small_spaces import SMALL_SPACES

IN = Node(0, "input")


def block(node_id: int, source: int, op: str = "conv", **params: int) -> Node:
    given = {"kernel": 3, "stride": 1, "width": 8} | ({"expand": 2} if op == "mbconv" else {}) | params
    return Node(node_id, op, (source,), tuple(sorted(given.items())))


def chain(*nodes: Node) -> Architecture:
    return Architecture("chain", (("net", Graph((IN, *nodes))),))


def space() -> ChainSpace:
    return ChainSpace(
        (2, 6, 6), classes=3, depth=(1, 6), widths=(4, 8, 12), kernels=(1, 3, 5), stem=8, head=0
    )


def trained(module: Network, seed: int = 0) -> Network:
    """As if it had been trained: no weight or statistic is at its start."""
    torch.manual_seed(seed)
    for part in module.modules():
        if isinstance(part, nn.BatchNorm1d | nn.BatchNorm2d):
            nn.init.uniform_(part.weight, 0.5, 1.5)
            nn.init.normal_(part.bias, 0, 0.3)
            nn.init.normal_(part.running_mean, 0, 0.3)
            nn.init.uniform_(part.running_var, 0.5, 2.0)
    return module.double()


def difference(parent: nn.Module, child: nn.Module, shape: tuple[int, ...], train: bool) -> float:
    """Largest difference of the logits, relative to the largest logit."""
    torch.manual_seed(1)
    x = torch.randn(6, *shape, dtype=torch.float64)
    with torch.no_grad():
        y, z = (model.train(train)(x) for model in (parent, child))
    return float((y - z).abs().max() / y.abs().max())


def pair(
    before: Architecture, after: Architecture, widening: Any = "zero", of: ChainSpace | None = None
) -> tuple[Network, Network, Inheritance]:
    of = of or space()
    parent, child = trained(of.build(before)), of.build(after).double()
    return parent, child, inherit(child, parent, np.random.default_rng(0), widening)


def add(node_id: int, *sources: int) -> Node:
    return Node(node_id, "add", sources)


EXACT = {
    "wider": (chain(block(1, 0), block(2, 1)), chain(block(1, 0, width=12), block(2, 1))),
    "wider before a depthwise convolution": (
        chain(block(1, 0), block(2, 1, "sepconv")),
        chain(block(1, 0, width=12), block(2, 1, "sepconv")),
    ),
    "a residual trunk that widens together": (
        chain(block(1, 0), block(2, 1), add(3, 2, 1), block(4, 3, "mbconv"), add(5, 4, 3), block(6, 5)),
        chain(
            block(1, 0, width=12),
            block(2, 1, width=12),
            add(3, 2, 1),
            block(4, 3, "mbconv", width=12),
            add(5, 4, 3),
            block(6, 5),
        ),
    ),
    "wider at the head": (chain(block(1, 0)), chain(block(1, 0, width=12))),
    "larger kernel": (chain(block(1, 0, kernel=1)), chain(block(1, 0, kernel=5))),
    "larger depthwise kernel": (chain(block(1, 0, "mbconv")), chain(block(1, 0, "mbconv", kernel=5))),
    "larger expansion": (chain(block(1, 0, "mbconv")), chain(block(1, 0, "mbconv", expand=4))),
    "a residual block more": (chain(block(1, 0)), chain(block(1, 0), block(2, 1, "mbconv"))),
    "a gated skip more": (
        chain(block(1, 0), block(2, 1), block(3, 2)),
        chain(block(1, 0), block(2, 1), Node(9, "gated_add", (2, 0)), block(3, 9)),
    ),
    "a residual block at the front": (chain(block(1, 0)), chain(block(2, 0, "mbconv"), block(1, 2))),
}


@pytest.mark.parametrize("widening", ["zero", "replicate"])
@pytest.mark.parametrize("name", EXACT)
def test_what_keeps_the_function(name: str, widening: str) -> None:
    parent, child, found = pair(*EXACT[name], widening)
    assert found.eval_mode
    assert found.train_mode
    for train in (False, True):
        assert difference(parent, child, (2, 6, 6), train) < 1e-12
    assert 0 < found.share <= 1


def test_new_channels_train_and_replicas_differ_with_noise() -> None:
    """Fresh channels are no copies, and the zero weights behind them get a gradient."""
    before, after = EXACT["wider"]
    parent, child, _ = pair(before, after)
    weight = child.get_parameter("net.n1.block.conv.weight")
    assert torch.equal(weight[:8], parent.get_parameter("net.n1.block.conv.weight"))
    assert not (weight[8:, None] == weight[None, :8]).flatten(2).all(-1).any()
    child.train()(torch.randn(4, 2, 6, 6, dtype=torch.float64)).square().sum().backward()
    gradient = child.get_parameter("net.n2.block.conv.weight").grad
    assert gradient is not None
    assert gradient[:, 8:].abs().max() > 0

    _, child, _ = pair(before, after, "replicate")
    weight = child.get_parameter("net.n1.block.conv.weight")
    twins = (weight[8:, None] == weight[None, :8]).flatten(2).all(-1)
    assert twins.any(1).all()
    child = space().build(after).double()
    inherit(child, parent, np.random.default_rng(0), "replicate", noise=0.01)
    weight = child.get_parameter("net.n1.block.conv.weight")
    assert not (weight[8:, None] == weight[None, :8]).flatten(2).all(-1).any()


def test_replicated_channels_share_their_outgoing_weight() -> None:
    """Net2WiderNet: divided by the number of copies, the original included."""
    parent, child, found = pair(*EXACT["wider"], "replicate")
    out = found.copied["net.n1.block.conv"].out
    counts = np.bincount(out)
    assert counts.sum() == 12
    old = parent.get_parameter("net.n2.block.conv.weight")
    new = child.get_parameter("net.n2.block.conv.weight")
    for channel, source in enumerate(out):
        torch.testing.assert_close(new[:, channel] * counts[source], old[:, source])


def test_an_inserted_convolution_is_the_identity_in_eval_mode_only() -> None:
    """Behind a ReLU, where a second one changes nothing."""
    parent, child, found = pair(chain(block(1, 0), block(3, 1)), chain(block(1, 0), block(2, 1), block(3, 2)))
    assert (found.eval_mode, found.train_mode) == (True, False)
    assert difference(parent, child, (2, 6, 6), train=False) < 1e-12
    assert difference(parent, child, (2, 6, 6), train=True) > 1e-3


def test_an_inserted_convolution_behind_a_linear_bottleneck_is_not_exact() -> None:
    before = chain(block(1, 0, "mbconv"), block(3, 1))
    after = chain(block(1, 0, "mbconv"), block(2, 1), block(3, 2))
    parent, child, found = pair(before, after)
    assert not found.eval_mode
    assert difference(parent, child, (2, 6, 6), train=False) > 1e-3


@pytest.mark.parametrize(
    "after",
    [
        chain(block(1, 0, width=4), block(2, 1)),
        chain(block(1, 0, kernel=1), block(2, 1)),
        chain(block(1, 0, "sepconv"), block(2, 1)),
        chain(block(1, 0, stride=2), block(2, 1)),
        chain(block(1, 0), block(2, 1), add(3, 2, 1)),
        chain(block(1, 0)),
    ],
    ids=["narrower", "smaller kernel", "other op", "stride", "sum with a skip", "a layer less"],
)
def test_what_cannot_keep_the_function_says_so_and_inherits_the_rest(after: Architecture) -> None:
    parent, child, found = pair(chain(block(1, 0), block(2, 1)), after)
    assert not found.eval_mode
    assert not found.train_mode
    assert difference(parent, child, (2, 6, 6), train=False) > 1e-6
    assert torch.equal(
        child.get_parameter("stem.block.conv.weight"), parent.get_parameter("stem.block.conv.weight")
    )
    assert 0 < found.share <= 1


def test_narrower_layers_keep_their_most_important_channels() -> None:
    before, after = chain(block(1, 0), block(2, 1)), chain(block(1, 0, width=4), block(2, 1))
    parent = trained(space().build(before))
    conv = parent.get_parameter("net.n1.block.conv.weight")
    with torch.no_grad():
        for channel in (1, 2, 5, 7):
            conv[channel] *= 10
    child = space().build(after).double()
    inherit(child, parent, np.random.default_rng(0))
    assert torch.equal(child.get_parameter("net.n1.block.conv.weight"), conv[[1, 2, 5, 7]])
    old = parent.get_parameter("net.n2.block.conv.weight")
    assert torch.equal(child.get_parameter("net.n2.block.conv.weight"), old[:, [1, 2, 5, 7]])


def test_batch_norm_brings_its_running_statistics() -> None:
    parent, child, _ = pair(*EXACT["wider"])
    for name in ("weight", "bias", "running_mean", "running_var"):
        old = parent.state_dict()[f"net.n1.block.bn.{name}"]
        new = child.state_dict()[f"net.n1.block.bn.{name}"]
        assert torch.equal(new[:8], old)


def test_momentum_goes_the_same_way() -> None:
    parent, child, found = pair(*EXACT["wider"], "replicate")
    momentum = {name: torch.randn_like(p) for name, p in parent.named_parameters()}
    zeros = {name: torch.zeros_like(p) for name, p in child.named_parameters()}
    mapped = carried(zeros, momentum, found)
    out = torch.from_numpy(found.copied["net.n1.block.conv"].out)
    torch.testing.assert_close(mapped["net.n1.block.conv.weight"], momentum["net.n1.block.conv.weight"][out])
    torch.testing.assert_close(mapped["net.n1.block.bn.bias"], momentum["net.n1.block.bn.bias"][out])
    assert all(mapped[name].shape == p.shape for name, p in child.named_parameters())


def test_the_share_is_counted_in_parameters() -> None:
    same = chain(block(1, 0))
    assert pair(same, same)[2].share == 1
    _, child, found = pair(chain(block(1, 0, kernel=1)), chain(block(1, 0, kernel=3)))
    fresh = 8 * 8 * (9 - 1)  # the frame of the kernel
    total = sum(p.numel() for p in child.parameters())
    assert found.share == pytest.approx(1 - fresh / total)


def test_networks_without_a_program_share_tensors_by_name() -> None:
    parent, child = (
        nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2)),
        nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 5)),
    )
    found = inherit(child, parent, np.random.default_rng(0))
    assert torch.equal(child[0].weight, parent[0].weight)
    assert found.share == pytest.approx(16 / 41)
    assert not found.eval_mode


NO_MORPHISM = {"darts", "nasnet"}
"""A cell of fixed size swaps ops and inputs: what goes is missing, nothing comes as a branch of its own."""


@pytest.mark.parametrize("name", SMALL_SPACES)
def test_a_copy_inherits_everything(name: str) -> None:
    """Also where cells do the same to one state twice."""
    of, rng = SMALL_SPACES[name](), np.random.default_rng(3)
    for _ in range(4):
        arch = of.sample(rng)
        parent, child = trained(of.build(of.canonical(arch))), of.build(of.canonical(arch)).double()
        found = inherit(child, parent, rng)
        assert (found.share, found.eval_mode, found.train_mode) == (1, True, True)
        assert all(torch.equal(a, b) for a, b in zip(child.parameters(), parent.parameters(), strict=True))


def test_the_classifier_of_darts_is_inherited() -> None:
    """DARTS_V1 pools one state twice."""
    of = DARTSSpace((3, 8, 8), 3, cells=3, filters=4)
    arch = of.decode(DARTS_V1)
    parent, child = trained(of.build(of.canonical(arch))), of.build(of.canonical(arch)).double()
    assert inherit(child, parent, np.random.default_rng(0)).share == 1
    assert torch.equal(child.get_parameter("head.linear.weight"), parent.get_parameter("head.linear.weight"))


def test_a_network_may_begin_with_a_join_of_its_input() -> None:
    inputs = {"choice": [["input"], ["input", "input"]]}
    nodes = [
        {"name": "d", "op": "concat", "inputs": inputs},
        {"name": "a", "op": "conv", "kernel": 3, "width": 4},
    ]
    of = TemplateSpace((3, 8, 8), 3, nodes=nodes)
    one, two = (of.architecture({"net": (text,)}) for text in ("input", "input, input"))
    for before, after in ((one, two), (two, one)):
        parent, child = of.build(of.canonical(before)), of.build(of.canonical(after))
        assert 0 < inherit(child, parent, np.random.default_rng(0)).share <= 1


@pytest.mark.parametrize("widening", ["zero", "replicate"])
@pytest.mark.parametrize("name", SMALL_SPACES)
def test_claims_hold_for_random_parents_and_children(name: str, widening: Any) -> None:
    kept = check_claims(SMALL_SPACES[name](), 6 if name in NO_MORPHISM else 40, widening)
    assert kept or name in NO_MORPHISM


@pytest.mark.slow
@pytest.mark.parametrize("widening", ["zero", "replicate"])
@pytest.mark.parametrize("name", SMALL_SPACES)
def test_claims_hold_for_200_random_parents_and_children(name: str, widening: Any) -> None:
    assert check_claims(SMALL_SPACES[name](), 200, widening) or name in NO_MORPHISM


def check_claims(of: Any, pairs: int, widening: Any) -> int:
    """Where the walk says that the function is kept, it is: to 1e-12 of the largest logit."""
    rng = np.random.default_rng(0)
    kept = 0
    for _ in range(pairs):
        before = of.sample(rng)
        after = of.mutate(before, rng)
        parent = trained(of.build(of.canonical(before)))
        child = of.build(of.canonical(after)).double()
        found = inherit(child, parent, rng, widening)
        for train, claimed in ((False, found.eval_mode), (True, found.train_mode)):
            if claimed:
                assert difference(parent, child, of.input_shape, train) < 1e-12, (before, after)
        kept += found.eval_mode
        assert 0 <= found.share <= 1
    return kept


def test_crossover_children_inherit_from_their_first_parent() -> None:
    of = space()
    rng = np.random.default_rng(0)
    shares = []
    for _ in range(10):
        a, b = of.sample(rng), of.sample(rng)
        child = of.crossover(a, b, rng)
        parent, module = (of.build(of.canonical(arch)) for arch in (a, child))
        shares.append(inherit(module, trained(parent).float(), rng).share)
    assert max(shares) > 0.3


# --- approximate morphisms -----------------------------------------------------------------------------


@pytest.mark.parametrize("kernel", [1, 3, 5])
def test_a_convolution_becomes_its_best_separable_factors(kernel: int) -> None:
    """Each input channel's kernels by their first singular vectors; batch norm and all else as they were."""
    before = chain(block(1, 0), block(2, 1, kernel=kernel), block(3, 2))
    after = chain(block(1, 0), block(2, 1, "sepconv", kernel=kernel), block(3, 2))
    parent, child, found = pair(before, after)
    assert set(found.separated) == {"net.n2.depthwise.conv"}
    assert (found.eval_mode, found.train_mode) == (False, False)
    assert found.share > 0.98
    weight = parent.get_parameter("net.n2.block.conv.weight")
    depthwise = child.get_parameter("net.n2.depthwise.conv.weight")
    pointwise = child.get_parameter("net.n2.pointwise.conv.weight")
    for channel in range(8):
        matrix = weight[:, channel].flatten(1)
        best = torch.linalg.svdvals(matrix)[1:].square().sum()
        factors = pointwise[:, channel].flatten(1) * depthwise[channel].flatten(1)
        assert float((matrix - factors).detach().square().sum()) == pytest.approx(
            float(best.detach()), abs=1e-12
        )
        assert depthwise[channel].sum() >= 0
    for name in ("weight", "bias", "running_mean", "running_var"):
        old, new = parent.state_dict(), child.state_dict()
        assert torch.equal(new[f"net.n2.pointwise.bn.{name}"], old[f"net.n2.block.bn.{name}"])
    if kernel == 1:  # of rank 1, and nothing negative comes in: exact up to the epsilon of a batch norm
        assert difference(parent, child, (2, 6, 6), train=False) < 1e-4


def test_separable_factors_at_another_kernel_and_width() -> None:
    before = chain(block(1, 0), block(2, 1, kernel=3), block(3, 2))
    for kernel, width in ((5, 12), (1, 4)):
        after = chain(block(1, 0), block(2, 1, "sepconv", kernel=kernel, width=width), block(3, 2))
        parent, child, found = pair(before, after)
        assert found.separated
        depthwise = child.get_parameter("net.n2.depthwise.conv.weight")
        if kernel == 5:
            assert depthwise[:, :, 1:4, 1:4].abs().sum() == depthwise.abs().sum() > 0
        assert torch.isfinite(difference_of(parent, child))


def difference_of(parent: nn.Module, child: nn.Module) -> Any:
    return torch.tensor(difference(parent, child, (2, 6, 6), train=False))


# --- words for what changed ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        (*EXACT["wider"], {"wider"}),
        (*EXACT["larger kernel"], {"kernel"}),
        (*EXACT["a residual block more"], {"branch"}),
        (*EXACT["a gated skip more"], {"branch"}),
        (chain(block(1, 0), block(3, 1)), chain(block(1, 0), block(2, 1), block(3, 2)), {"inserted"}),
        (*EXACT["wider"][::-1], {"narrower"}),
        (*EXACT["larger kernel"][::-1], {"smaller kernel"}),
        (chain(block(1, 0)), chain(block(1, 0, stride=2)), {"stride"}),
        (chain(block(1, 0)), chain(block(1, 0, "sepconv")), {"separable"}),
        (chain(block(1, 0), block(2, 1)), chain(block(1, 0)), {"removed"}),
        (chain(block(1, 0, width=12)), chain(block(1, 0, "mbconv", width=12)), {"replaced"}),
        (chain(block(1, 0), block(2, 1)), chain(block(1, 0), block(2, 1), add(3, 2, 1)), {"rewired"}),
        (chain(block(1, 0)), chain(block(1, 0)), set()),
    ],
)
def test_the_word_for_each_change(before: Architecture, after: Architecture, words: set[str]) -> None:
    parent, child, found = pair(before, after)
    assert morphisms(child.program, parent.program, found) == words


@pytest.mark.parametrize("name", SMALL_SPACES)
def test_the_table_of_morphisms_says_what_is_seen(name: str) -> None:
    """None that it does not have, and none that is kept better than it says."""
    row = written()[name]
    assert list(row) == list(MORPHISMS)
    for kind, cell in seen(SMALL_SPACES[name](), 60).items():
        assert BEST.index(cell) <= BEST.index(row[kind]), (kind, cell, row[kind])
