"""Expected hypervolume improvement against volumes, closed forms and Monte Carlo."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm

from nas import pareto
from nas.surrogates.ehvi import boxes, exactly, expected_hypervolume_improvement
from nas.surrogates.model import Normal
from nas.surrogates.warp import Warp


@pytest.mark.parametrize("objectives", [1, 2, 3, 4])
@pytest.mark.parametrize("count", [0, 1, 5, 30])
@pytest.mark.parametrize("ties", [False, True])
def test_boxes_fill_what_the_front_leaves(objectives: int, count: int, ties: bool) -> None:
    rng = np.random.default_rng(objectives * 100 + count)
    losses, reference = rng.random((count, objectives)), np.full(objectives, 0.9)
    if ties:
        losses = np.round(4 * losses) / 4
    lower, upper = boxes(losses, reference)
    assert (lower < upper).all()
    assert objectives > 3 or len(lower) <= 2 * count + 1
    lower = np.maximum(lower, 0.0)
    left = np.prod(np.maximum(upper - lower, 0.0), axis=1).sum()
    assert left == pytest.approx(np.prod(reference) - pareto.hypervolume(losses, reference), abs=1e-12)
    points = rng.random((500, objectives)) * 0.9
    inside = ((points[:, None] > lower) & (points[:, None] <= upper)).all(axis=2).sum(axis=1)
    dominated = np.array([(row <= point).all() for point in points for row in losses]).reshape(500, -1)
    np.testing.assert_array_equal(inside, ~dominated.any(axis=1) * 1)  # disjoint, and all of it


def test_a_known_candidate_adds_its_hypervolume() -> None:
    rng = np.random.default_rng(0)
    for objectives in (1, 2, 3, 4):
        front, reference = rng.random((12, objectives)), np.full(objectives, 0.9)
        candidates = rng.random((30, objectives))
        below = [exactly(candidates[:, j]) for j in range(objectives)]
        found = expected_hypervolume_improvement(below, *boxes(front, reference))
        before = pareto.hypervolume(front, reference)
        grown = [pareto.hypervolume(np.vstack([front, row]), reference) - before for row in candidates]
        np.testing.assert_allclose(found, grown, atol=1e-12)


@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize("objectives", [1, 2, 3])
def test_expectation_against_monte_carlo(objectives: int, log: bool) -> None:
    """The last objective is exact where there are several."""
    rng = np.random.default_rng(3)
    front, reference = rng.random((6, objectives)) + 0.5, np.full(objectives, 1.4)
    warp = Warp.to(rng.random(20) + 0.5, log)
    uncertain = [Normal(rng.normal(size=1), rng.random(1) + 0.3) for _ in range(max(1, objectives - 1))]
    known = np.array([0.8])
    below = [lambda levels, p=p: warp.expected_below(levels, p) for p in uncertain]
    draws = [warp.losses(p.mean + p.std * rng.normal(size=20_000)) for p in uncertain]
    if objectives > 1:
        below.append(exactly(known))
        draws.append(np.full(20_000, 0.8))
    (found,) = expected_hypervolume_improvement(below, *boxes(front, reference))
    before = pareto.hypervolume(front, reference)
    gains = [
        pareto.hypervolume(np.vstack([front, row]), reference) - before for row in np.column_stack(draws)
    ]
    assert found == pytest.approx(np.mean(gains), abs=4 * np.std(gains) / np.sqrt(len(gains)))


def test_one_objective_is_expected_improvement() -> None:
    """Jones et al. 1998, equation 15."""
    warp = Warp(False, 0.0, 1.0, 0.0)
    prediction = Normal(np.array([0.0, 1.0]), np.array([1.0, 0.5]))
    found = warp.expected_below(np.array([0.5, -np.inf]), prediction)
    z = (0.5 - prediction.mean) / prediction.std
    np.testing.assert_allclose(found[:, 0], prediction.std * (z * norm.cdf(z) + norm.pdf(z)))
    assert (found[:, 1] == 0).all()
    np.testing.assert_allclose(warp.chances_below(np.array([0.5]), prediction)[:, 0], norm.cdf(z))


def test_there_must_be_an_objective() -> None:
    with pytest.raises(ValueError, match="at least one objective"):
        expected_hypervolume_improvement([], np.zeros((1, 0)), np.zeros((1, 0)))
