"""Scalarisations: closed forms, golden numbers, pymoo's decompositions, bad input."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from pymoo.decomposition.aasf import AASF
from pymoo.decomposition.asf import ASF
from pymoo.decomposition.pbi import PBI
from pymoo.decomposition.tchebicheff import Tchebicheff
from pymoo.decomposition.weighted_sum import WeightedSum

from nas import pareto
from nas.scalarisation import (
    HARD,
    SOFT,
    achievement,
    augmented_chebyshev,
    chebyshev,
    epsilon_constraint,
    mnasnet_reward,
    penalty_boundary_intersection,
    scaled,
    weighted_exponential_sum,
    weighted_product,
    weighted_sum,
)

WEIGHTED: dict[str, Callable[..., Any]] = {
    "sum": weighted_sum,
    "exponential sum": weighted_exponential_sum,
    "product": weighted_product,
    "chebyshev": chebyshev,
    "augmented": augmented_chebyshev,
    "achievement": achievement,
    "pbi": penalty_boundary_intersection,
}
every_weighted = pytest.mark.parametrize("score", WEIGHTED.values(), ids=WEIGHTED)


def test_closed_forms() -> None:
    row, weights = [2.0, 3.0], [0.5, 2.0]
    assert weighted_sum(row, weights) == 7.0
    assert weighted_exponential_sum(row, weights, p=2) == 0.5 * 4 + 2 * 9
    assert weighted_exponential_sum(row, weights, p=1) == weighted_sum(row, weights)
    assert weighted_product(row, weights) == pytest.approx(2**0.5 * 9)
    assert chebyshev(row, weights) == 6.0
    assert chebyshev(row, weights, ideal=[5.0, 3.5]) == 1.5  # absolute: .5 * 3, 2 * .5
    assert augmented_chebyshev(row, weights) == 6.0 + 0.05 * 7.0
    assert augmented_chebyshev(row, weights, rho=0) == chebyshev(row, weights)
    assert achievement(row, weights) == 6.0
    assert achievement(row, weights, reference=[5.0, 3.5]) == -1.0  # signed: better than asked for
    assert achievement(row, weights, reference=[1.0, 2.0], rho=0.1) == 2.0 + 0.1 * 2.5
    assert penalty_boundary_intersection([2.0, 0.0], [1.0, 1.0]) == pytest.approx(2**0.5 + 5 * 2**0.5)
    assert penalty_boundary_intersection([3.0, 4.0], [6.0, 8.0]) == pytest.approx(5.0)  # on the line: d2 = 0


def test_rows_and_a_single_row_agree() -> None:
    losses = np.random.default_rng(0).random((6, 3)) + 0.1
    weights = [0.2, 0.3, 0.5]
    for score in WEIGHTED.values():
        many = score(losses, weights)
        assert many.shape == (6,)
        assert many == pytest.approx([float(score(row, weights)) for row in losses])
    assert epsilon_constraint(losses, 0, np.full(3, 9.0)).shape == (6,)


@pytest.mark.parametrize("m", [2, 3, 5])
def test_pymoos_decompositions(m: int) -> None:
    """ASF and AASF divide by what we multiply with."""
    rng = np.random.default_rng(m)
    losses, weights, ideal = rng.random((30, m)) + 1, rng.random(m) + 0.1, rng.random(m)
    given = {"ideal_point": ideal, "utopian_point": ideal}
    assert weighted_sum(losses, weights) == pytest.approx(WeightedSum().do(losses, weights))
    assert chebyshev(losses, weights, ideal) == pytest.approx(Tchebicheff().do(losses, weights, **given))
    assert penalty_boundary_intersection(losses, weights, ideal) == pytest.approx(
        PBI(theta=5).do(losses, weights, **given)
    )
    assert achievement(losses, weights, ideal) == pytest.approx(ASF().do(losses, 1 / weights, **given))
    theirs = AASF(rho=0.05).do(losses, 1 / weights, **given)
    assert achievement(losses, weights, ideal, rho=0.05) == pytest.approx(theirs)
    assert augmented_chebyshev(losses, weights, ideal) == pytest.approx(theirs)  # nothing is below the ideal


def test_mnasnet_rewards_golden_numbers() -> None:
    assert mnasnet_reward(1.0, 2.0, target=1.0) == pytest.approx(0.9526, abs=5e-5)
    assert mnasnet_reward(0.8, 80.0, target=80.0) == pytest.approx(0.8)
    assert mnasnet_reward(0.8, 40.0, 80.0, SOFT) == pytest.approx(0.8 * 2**0.07)  # early is rewarded
    assert mnasnet_reward([0.8, 0.8], [40.0, 160.0], 80.0, HARD) == pytest.approx([0.8, 0.4])
    exact = np.log(1 / 1.05) / np.log(2)  # 5 % of accuracy for twice the latency, same reward
    assert exact == pytest.approx(SOFT[0], abs=5e-4)
    assert mnasnet_reward(0.5 * 1.05, 20.0, 10.0, (exact, exact)) == pytest.approx(0.5)
    assert mnasnet_reward([np.nan, 0.5, 0.5], [1.0, np.inf, 1.0], 1.0).tolist() == [-np.inf, -np.inf, 0.5]


def test_epsilon_constraint() -> None:
    losses = [[1.0, 9.0, 0.0], [2.0, 3.0, 0.0], [3.0, 1.0, 5.0]]
    assert epsilon_constraint(losses, 0, [0.0, 3.0, np.inf]).tolist() == [np.inf, 2.0, 3.0]
    assert epsilon_constraint(losses, 0, [0.0, 3.0, 4.0]).tolist() == [np.inf, 2.0, np.inf]
    assert np.isinf(epsilon_constraint(losses, 0, [0.0, 0.5, 0.0])).all()
    with pytest.raises(ValueError, match="`0 <= objective < 3`"):
        epsilon_constraint(losses, 3, [1.0, 1.0, 1.0])
    with pytest.raises(ValueError, match="bounds must be 3 numbers"):
        epsilon_constraint(losses, 0, [1.0, np.nan, 1.0])


def test_what_each_can_reach_on_a_non_convex_front() -> None:
    """x^2 + y^2 = 1: the sum finds the ends only, high powers more, Chebyshev all of it."""
    angle = np.linspace(0, np.pi / 2, 21)
    front = np.c_[np.cos(angle), np.sin(angle)].round(12)

    def found(score: Callable[..., Any], **options: Any) -> set[int]:
        directions = [(a, 1 - a) for a in np.linspace(0.01, 0.99, 199)]
        return {int(np.argmin(score(front, weights, **options))) for weights in directions}

    assert found(weighted_sum) == {0, 20}
    assert len(found(chebyshev)) == 21
    assert len(found(weighted_exponential_sum, p=8)) > 5


def test_augmentation_leaves_no_weakly_optimal_minimum() -> None:
    losses = [[1.0, 1.0], [1.0, 0.2]]
    assert chebyshev(losses, [1.0, 1.0]).tolist() == [1.0, 1.0]
    assert np.argmin(augmented_chebyshev(losses, [1.0, 1.0])) == 1


@every_weighted
def test_the_minimum_is_never_dominated(score: Callable[..., Any]) -> None:
    """With positive weights; PBI only promises it for points beyond its line, theta = 0 for all."""
    options = {"theta": 0.0} if score is penalty_boundary_intersection else {}
    rng = np.random.default_rng(1)
    for _ in range(50):
        losses = rng.random((15, 3)) + 0.1
        assert np.argmin(score(losses, rng.random(3) + 0.1, **options)) in pareto.front(losses)


@every_weighted
def test_failed_rows_come_last_without_a_warning(score: Callable[..., Any]) -> None:
    losses = [[np.nan, 1.0], [1.0, np.inf], [5.0, 5.0], [-np.inf, 1.0], [np.nan, np.nan]]
    scores = score(losses, [0.0, 1.0])
    assert np.isfinite(scores).tolist() == [False, False, True, False, False]
    assert (scores[[0, 1, 3, 4]] == np.inf).all()
    assert score([np.nan, 1.0], [0.0, 1.0]) == np.inf
    assert score(np.empty((0, 2)), [0.0, 1.0]).shape == (0,)


@every_weighted
@pytest.mark.parametrize("weights", [[1.0], [1.0, -1.0], [0.0, 0.0], [1.0, np.nan], [[1.0, 1.0]]])
def test_wrong_weights_are_refused(score: Callable[..., Any], weights: Any) -> None:
    with pytest.raises(ValueError, match="weights must be 2 numbers >= 0, not all 0, but got"):
        score([[1.0, 2.0]], weights)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: weighted_exponential_sum([[1.0, 1.0]], [1, 1], p=0), "`p > 0`"),
        (lambda: weighted_exponential_sum([[1.0, -1.0]], [1, 1]), "losses >= 0, but got -1.0"),
        (lambda: weighted_product([[1.0, 0.0]], [1, 1]), "losses > 0, but got 0.0"),
        (lambda: augmented_chebyshev([[1.0, 1.0]], [1, 1], rho=-1), "`rho >= 0`"),
        (lambda: achievement([[1.0, 1.0]], [1, 1], rho=np.nan), "`rho >= 0`"),
        (lambda: penalty_boundary_intersection([[1.0, 1.0]], [1, 1], theta=-1), "`theta >= 0`"),
        (lambda: chebyshev([[1.0, 1.0]], [1, 1], ideal=[0.0]), "ideal must be 2 finite numbers"),
        (lambda: achievement([[1.0, 1.0]], [1, 1], reference=[0, np.inf]), "reference must be 2 finite"),
        (lambda: weighted_sum(1.0, [1.0]), "losses must have shape"),
        (lambda: weighted_sum([[[1.0]]], [1.0]), "losses must have shape"),
        (lambda: mnasnet_reward(1.0, 1.0, target=0.0), "`target > 0`"),
        (lambda: mnasnet_reward(1.0, -1.0, target=1.0), "`latency > 0`"),
        (lambda: mnasnet_reward([1.0, 1.0], [1.0], target=1.0), "one shape"),
        (lambda: mnasnet_reward(1.0, 1.0, 1.0, (0.0, 0.07)), "exponents <= 0"),
    ],
)
def test_wrong_arguments_are_refused(call: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


def test_scaled() -> None:
    losses = [[0.0, 5.0, 7.0], [10.0, 1.0, 7.0], [np.nan, 99.0, 7.0], [5.0, 3.0, 7.0]]
    found = scaled(losses)
    assert found[[0, 1, 3]].tolist() == [[0, 1, 0], [1, 0, 0], [0.5, 0.5, 0]]
    assert np.isnan(found[2, 0])
    assert np.isnan(scaled([[np.nan, 1.0]])[0, 0])
    assert scaled(np.empty((0, 2))).shape == (0, 2)


def test_a_product_needs_no_scaling() -> None:
    losses = np.random.default_rng(3).random((20, 2)) + 0.1
    order = np.argsort(weighted_product(losses, [0.3, 0.7]))
    assert (order == np.argsort(weighted_product(losses * [1e-3, 1e6], [0.3, 0.7]))).all()
