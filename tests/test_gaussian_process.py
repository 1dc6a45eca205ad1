"""Features and the Gaussian process over them, against dense algebra and finite differences."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from scipy.optimize import approx_fprime

from nas.architecture import Architecture, Graph, Node
from nas.surrogates import gp
from nas.surrogates.features import BLOCKS, REMOTE, Features, graph_shape, squared_distances, wl_counts
from nas.surrogates.gp import JITTER, Scaling, fit_kernel
from nas.surrogates.model import Unfit
from nas.surrogates.posterior import Places, Posterior
from search_spaces.nasbench201 import NASBench201Space
from search_spaces.nasnet import NASNetSpace

SPACE = NASBench201Space()


def known(count: int, seed: int = 0) -> tuple[Features, list[int], np.ndarray]:
    rng = np.random.default_rng(seed)
    features = Features(SPACE)
    architectures = [SPACE.sample(rng) for _ in range(count)]
    targets = np.array(
        [np.log(SPACE.cost(a).macs) + 0.1 * len(SPACE.canonical(a).graph("cell")) for a in architectures]
    )
    return features, features.rows(architectures), (targets - targets.mean()) / targets.std()


# --- features ------------------------------------------------------------------------------------------


def test_shape_of_a_diamond() -> None:
    nodes = (Node(0, "input"), Node(1, "a", (0,)), Node(2, "b", (0, 1)), Node(3, "add", (0, 1, 2)))
    longest, shortest = 4.0, 2.0
    assert graph_shape(Graph(nodes)) == [4.0, 6.0, longest, shortest, pytest.approx(np.log(4))]


def test_labels_by_hand() -> None:
    graph = Graph((Node(0, "input"), Node(1, "conv", (0,)), Node(2, "conv", (0,)), Node(3, "add", (1, 2))))
    arch = Architecture("any", (("cell", graph),))
    alone, around, further = wl_counts(arch, 2)
    assert alone == {"cell/input": 1, "cell/conv": 2, "cell/add": 1}
    assert sorted(around.values()) == [1, 1, 2]  # the two convolutions stay alike
    assert sorted(further.values()) == [1, 1, 2]
    chain = Architecture(
        "any", (("cell", Graph((Node(0, "input"), Node(1, "conv", (0,)), Node(2, "conv", (1,))))),)
    )
    assert wl_counts(chain, 1)[0]["cell/conv"] == 2
    assert sorted(wl_counts(chain, 1)[1].values()) == [1, 1, 1]  # these do not


def test_labels_do_not_see_ids_or_the_order_of_listing() -> None:
    rng = np.random.default_rng(1)
    for _ in range(20):
        arch = SPACE.canonical(SPACE.sample(rng))
        moved = {node.id: node.id + 100 for node in arch.graph("cell")}
        nodes = tuple(
            Node(moved[n.id], n.op, tuple(moved[i] for i in n.inputs), n.params)
            for n in arch.graph("cell").nodes
        )
        other = Architecture(arch.space, (("cell", Graph(nodes)),), arch.params)
        assert wl_counts(arch, 2) == wl_counts(other, 2)


def test_rows_hold_what_they_say_however_the_table_grew() -> None:
    rng = np.random.default_rng(2)
    space = NASNetSpace(cells=1)
    architectures = [space.sample(rng) for _ in range(150)]
    first, second = Features(space, BLOCKS), Features(space, BLOCKS)
    rows = first.rows(architectures)
    assert rows == list(range(150)) and first.rows(architectures) == rows and len(first) == 150
    back = second.rows(architectures[::-1])[::-1]
    for mine, other in zip(first.blocks(rows), second.blocks(back), strict=True):
        here, there = squared_distances([mine], [mine]), squared_distances([other], [other])
        np.testing.assert_allclose(here, there, atol=1e-9)
    cost = space.cost(space.canonical(architectures[7]))
    np.testing.assert_allclose(first.outlines([architectures[7]])[0, :2], np.log1p([cost.params, cost.macs]))
    assert first.outlines([architectures[7]]).shape == (1, 2 + 2 * 5)  # two cells
    ops = Counter(node.op for _, graph in space.canonical(architectures[7]).graphs for node in graph)
    assert first.blocks([7])[BLOCKS.index("ops")].sum() == ops.total()


@pytest.mark.parametrize("block", BLOCKS)
def test_each_block_alone(block: str) -> None:
    features = Features(SPACE, (block,))
    (alone,) = features.blocks(features.rows([SPACE.sample(np.random.default_rng(3))]))
    assert alone.any()


def test_networks_written_differently_differ_in_the_written_block_only() -> None:
    a, b = SPACE.decode("|none~0|+|none~0|none~1|+|skip_connect~0|none~1|nor_conv_3x3~2|"), None
    b = SPACE.decode("|none~0|+|none~0|none~1|+|skip_connect~0|nor_conv_1x1~1|none~2|")
    features = Features(SPACE, BLOCKS)
    written, *others = squared_distances(
        features.blocks(features.rows([a])), features.blocks(features.rows([b]))
    )
    assert written > 0
    assert not np.any(others)


def test_labels_with_their_surroundings_are_doubted_beside_other_blocks() -> None:
    doubted = Features(SPACE, BLOCKS)
    assert dict(zip(BLOCKS, doubted.doubts, strict=True)) == {
        name: REMOTE if name.startswith("wiring") else 0.0 for name in BLOCKS
    }
    assert not Features(SPACE, ("ops", "wiring", "wiring2")).doubts.any()


def test_what_is_doubted_matters_less_until_the_data_say_so() -> None:
    """Of two blocks the second is noise, and with few values both look alike; with many it is the signal."""
    rng = np.random.default_rng(5)
    signal, noise = rng.normal(size=(60, 1)), rng.normal(size=(60, 1))
    targets = np.sin(2 * signal[:, 0])
    targets = (targets - targets.mean()) / targets.std()

    def lengths(rows: int, blocks: list[np.ndarray], doubt: float) -> np.ndarray:
        scaling = Scaling.of(blocks, np.array([0.0, doubt]))
        return fit_kernel([block[:rows] for block in blocks], targets[:rows], scaling)[0].lengths

    trusted, doubted = (lengths(5, [signal, noise], doubt)[1] for doubt in (0.0, REMOTE))
    assert doubted > 5 * trusted
    first, second = lengths(60, [noise, signal], REMOTE)
    assert second < first


# --- the process ---------------------------------------------------------------------------------------


def dense(features: Features, rows: list[int], kernel: gp.Kernel) -> np.ndarray:
    """Prior covariance, block by block."""
    blocks = features.blocks(rows)
    scaled = [d / s for d, s in zip(squared_distances(blocks, blocks), kernel.scaling.distances, strict=True)]
    smooth = kernel.variance * np.exp(
        -sum(d / length for d, length in zip(scaled, kernel.lengths, strict=True))
    )
    wide = [np.pad(c, (0, b.shape[1] - len(c))) for b, c in zip(blocks, kernel.scaling.centres, strict=True)]
    inner = [
        2 * (block - centre) @ (block - centre).T / distance
        for block, centre, distance in zip(blocks, wide, kernel.scaling.distances, strict=True)
    ]
    return np.asarray(smooth + sum(w * g for w, g in zip(kernel.weights, inner, strict=True)))


def test_posterior_against_dense_algebra() -> None:
    features, rows, targets = known(60)
    scaling = Scaling.of(features.blocks(rows[:50]))
    kernel, _ = fit_kernel(features.blocks(rows[:40]), targets[:40], scaling)
    posterior = Posterior(kernel, Places(features, scaling))
    for place in range(40):
        posterior.add(rows[place], targets[place])
        if place in (0, 10, 30):
            posterior.predict(rows[:: place + 1])  # whatever was asked in between
    later = features.rows([SPACE.sample(np.random.default_rng(i)) for i in range(90, 190)])  # new labels
    everything = rows + later
    covariance = dense(features, everything, kernel)
    data, given = list(range(40)), [41, 55, 70]
    noise = kernel.noise + JITTER
    mean = covariance[:, data] @ np.linalg.solve(
        covariance[np.ix_(data, data)] + noise * np.eye(40), targets[:40]
    )
    found = posterior.predict(everything, [everything[i] for i in given])
    np.testing.assert_allclose(found.mean, mean, atol=1e-8)
    data += given
    inverse = np.linalg.inv(covariance[np.ix_(data, data)] + noise * np.eye(43))
    left = covariance - covariance[:, data] @ inverse @ covariance[data]
    np.testing.assert_allclose(found.std**2, np.maximum(np.diag(left), 1e-12), atol=1e-8)
    data = data[:40]
    inverse = np.linalg.inv(covariance[np.ix_(data, data)] + noise * np.eye(40))
    left = covariance - covariance[:, data] @ inverse @ covariance[data]
    np.testing.assert_allclose(posterior.covariance(later[:5], rows[:7]), left[60:65, :7], atol=1e-8)


def test_processes_that_share_their_places_are_those_that_do_not() -> None:
    """Also where they begin alike, grow alike and are asked differently, while labels widen the blocks."""
    features, rows, targets = known(40)
    scaling = Scaling.of(features.blocks(rows[:20]))
    blocks = features.blocks(rows[:20])
    kernels = [fit_kernel(blocks, values[:20], scaling)[0] for values in (targets, targets**2 - 1)]
    shared = Places(features, scaling)
    together = [Posterior(kernel, shared) for kernel in kernels]
    alone = [Posterior(kernel, Places(features, scaling)) for kernel in kernels]
    later = features.rows([SPACE.sample(np.random.default_rng(i)) for i in range(90, 150)])
    for posterior in (*together, *alone):
        posterior.begin(rows[:20], targets[:20])
    for place in range(20, 30):
        together[0].predict(later[: 2 * place])
        for posterior in (*together, *alone):
            posterior.add(rows[place], targets[place])
    for mine, other in zip(together, alone, strict=True):
        found, expected = mine.predict(later, rows[30:33]), other.predict(later, rows[30:33])
        np.testing.assert_allclose(found.mean, expected.mean, atol=1e-9)
        np.testing.assert_allclose(found.std, expected.std, atol=1e-9)


def test_places_and_kernel_are_of_one_scaling() -> None:
    features, rows, targets = known(10)
    first, second = Scaling.of(features.blocks(rows)), Scaling.of(features.blocks(rows[:5]))
    kernel, _ = fit_kernel(features.blocks(rows), targets, first)
    with pytest.raises(ValueError, match="must be of the scaling of its places"):
        Posterior(kernel, Places(features, second))


def test_the_gradient_is_that_of_the_likelihood(monkeypatch: pytest.MonkeyPatch) -> None:
    features, rows, targets = known(15)
    seen = []

    def check(function, start, **options):  # type: ignore[no-untyped-def]
        off = start + 0.3 * np.sin(np.arange(len(start)))
        seen.append((function(off)[1], approx_fprime(off, lambda x: function(x)[0], 1e-6)))
        raise Unfit("seen")

    monkeypatch.setattr(gp, "minimize", check)
    with pytest.raises(Unfit):
        fit_kernel(features.blocks(rows), targets, Scaling.of(features.blocks(rows)))
    np.testing.assert_allclose(*seen[0], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("seed", range(4))
def test_few_steps_suffice_for_a_sum_over_layers(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """As latencies are: from the mode of the prior so many steps end 1.9 and 1.0 short of two of these."""
    features, rows, _ = known(45, seed)
    rng = np.random.default_rng(seed)
    blocks = features.blocks(rows)
    sums = blocks[0] @ rng.exponential(size=blocks[0].shape[1])
    targets = sums + 0.02 * sums.std() * rng.normal(size=45)
    targets = (targets - targets.mean()) / targets.std()
    _, few = fit_kernel(blocks, targets, Scaling.of(blocks))
    monkeypatch.setattr(gp, "STEPS", 100)
    _, many = fit_kernel(blocks, targets, Scaling.of(blocks))
    assert few == pytest.approx(many, abs=0.3)


def test_it_learns_and_knows_how_much() -> None:
    """Of 150 networks, given 60: most of the variance, and about 90 % inside the 90 % interval."""
    features, rows, targets = known(150, seed=4)
    kernel, _ = fit_kernel(features.blocks(rows[:60]), targets[:60], Scaling.of(features.blocks(rows)))
    posterior = Posterior(kernel, Places(features, kernel.scaling))
    for row, target in zip(rows[:60], targets[:60], strict=True):
        posterior.add(row, target)
    found = posterior.predict(rows[60:])
    error = found.mean - targets[60:]
    assert (error**2).mean() < 0.3 * targets.var()
    inside = np.abs(error) < 1.645 * np.sqrt(found.std**2 + kernel.noise)
    assert 0.75 <= inside.mean() <= 1


@pytest.mark.parametrize("targets", [np.zeros(6), np.ones(6), np.array([1.0, -1.0] * 3)])
def test_rows_that_are_all_one_architecture(targets: np.ndarray) -> None:
    """The kernel without noise is singular."""
    features = Features(SPACE)
    rows = features.rows([SPACE.sample(np.random.default_rng(0))]) * 6
    kernel, _ = fit_kernel(features.blocks(rows), targets, Scaling.of(features.blocks(rows)))
    posterior = Posterior(kernel, Places(features, kernel.scaling))
    for row, target in zip(rows, targets, strict=True):
        posterior.add(row, target)
    found = posterior.predict(rows)
    assert np.isfinite(found.mean).all() and (found.std > 0).all()


def test_one_value_is_not_enough() -> None:
    features, rows, targets = known(3)
    with pytest.raises(Unfit, match="at least 2 values, but got 1"):
        fit_kernel(features.blocks(rows[:1]), targets[:1], Scaling.of(features.blocks(rows)))
