"""Acquisition functions against closed forms, Monte Carlo and slow references."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import integrate, stats

from nas.surrogates import acquisition
from nas.surrogates.model import Normal

MEANS = np.array([-2.0, -0.5, 0.0, 0.3, 1.0, 2.0])
STDS = np.array([0.1, 1.0, 0.5, 2.0, 0.7, 3.0])
SOME = Normal(MEANS, STDS)


def expected(function: str, best: float) -> list[float]:
    """By numerical integration."""
    gain = {"pi": lambda loss: float(loss < best), "ei": lambda loss: max(best - loss, 0.0)}[function]
    found = []
    for mean, std in zip(MEANS, STDS, strict=True):

        def weighed(loss: float, mean: float = mean, std: float = std) -> float:
            return gain(loss) * float(stats.norm.pdf(loss, mean, std))

        found.append(integrate.quad(weighed, mean - 12 * std, best, limit=200)[0])
    return found


@pytest.mark.parametrize("best", [-1.0, 0.1, 4.0])
def test_improvements_are_the_integrals(best: float) -> None:
    assert acquisition.probability_of_improvement(SOME, best) == pytest.approx(expected("pi", best), abs=1e-8)
    assert acquisition.expected_improvement(SOME, best) == pytest.approx(expected("ei", best), abs=1e-8)
    assert acquisition.log_expected_improvement(SOME, best) == pytest.approx(
        np.log(expected("ei", best)), rel=1e-5
    )


def test_log_expected_improvement_far_away() -> None:
    """h(z) -> phi(z) / z^2 (1 - 3 / z^2 + 15 / z^4); a smooth join of all forms; nothing underflows."""
    z = -np.array([30.0, 1e2, 1e3, 1e5, 1e8])
    found = acquisition.log_expected_improvement(Normal(-z, np.ones(5)), 0.0)
    series = -0.5 * z**2 - 0.5 * np.log(2 * np.pi) - 2 * np.log(-z) + np.log1p(-3 / z**2 + 15 / z**4)
    assert found - series == pytest.approx(np.zeros(5), abs=1e-5)
    assert np.isfinite(found).all()
    for join in (-1.0, acquisition.FAR):
        around = np.array([join * (1 + 1e-9), join * (1 - 1e-9)])
        low, high = acquisition.log_expected_improvement(Normal(-around, np.ones(2)), 0.0)
        slope = abs(join) * 1.1 + 1
        assert abs(high - low) <= 2e-9 * abs(join) * slope + 1e-6
    grid = np.linspace(-60, 10, 5001)
    assert (np.diff(acquisition.log_expected_improvement(Normal(-grid, np.ones(5001)), 0.0)) > 0).all()


def test_certain_predictions_have_the_limits() -> None:
    known = Normal(np.array([1.0, 2.0, 3.0]), np.zeros(3))
    assert acquisition.probability_of_improvement(known, 2.0).tolist() == [1.0, 0.0, 0.0]
    assert acquisition.expected_improvement(known, 2.0).tolist() == [1.0, 0.0, 0.0]
    assert acquisition.log_expected_improvement(known, 2.0).tolist() == [0.0, -np.inf, -np.inf]
    huge = Normal(np.array([-1e200, 1e200]), np.ones(2))
    assert acquisition.log_expected_improvement(huge, 0.0)[0] == pytest.approx(np.log(1e200), rel=0.5)


def test_bounds_and_draws() -> None:
    assert acquisition.confidence_bound(SOME, 2.0) == pytest.approx(MEANS - 2 * STDS)
    rng = np.random.default_rng(0)
    drawn = np.array([acquisition.independent_thompson_sampling(SOME, rng) for _ in range(4000)])
    for place, column in enumerate(drawn.T):
        assert stats.kstest(column, stats.norm(MEANS[place], STDS[place]).cdf).pvalue > 1e-3
    apart = np.corrcoef(drawn.T) - np.eye(6)
    assert np.abs(apart).max() < 0.07


def covariance_of(size: int, rng: np.random.Generator) -> np.ndarray:
    root = rng.normal(size=(size, size))
    return np.asarray(root @ root.T)


def test_joint_draws_have_the_law() -> None:
    rng = np.random.default_rng(1)
    covariance = covariance_of(4, rng)
    drawn = acquisition.thompson(np.arange(4.0), covariance, rng, 20_000)
    assert drawn.mean(axis=0) == pytest.approx(np.arange(4.0), abs=0.1)
    assert np.cov(drawn.T) == pytest.approx(covariance, abs=0.25)
    certain = acquisition.thompson([1.0, 2.0], np.zeros((2, 2)), rng)
    assert certain.tolist() == [[1.0, 2.0]]
    rounded = acquisition.thompson([0.0, 0.0], [[1.0, 1.0001], [1.0001, 1.0]], rng, 1000)  # indefinite
    assert rounded[:, 0] == pytest.approx(rounded[:, 1])
    assert rounded.std() == pytest.approx(1.0, abs=0.1)


@pytest.mark.parametrize("seed", range(4))
def test_knowledge_gradient_is_what_simulation_says(seed: int) -> None:
    rng = np.random.default_rng(seed)
    size = int(rng.integers(2, 8))
    mean, covariance, noise = rng.normal(size=size), covariance_of(size, rng), float(rng.random())
    found = acquisition.knowledge_gradient(mean, covariance, noise)
    z = stats.norm.ppf((np.arange(20_000) + 0.5) / 20_000)
    for place in range(size):
        move = covariance[:, place] / np.sqrt(covariance[place, place] + noise)
        after = (mean[:, None] + move[:, None] * z).min(axis=0)
        assert found[place] == pytest.approx(mean.min() - after.mean(), abs=2e-3)


def test_knowledge_gradient_of_one_that_is_uncertain_is_the_expected_improvement() -> None:
    """Of two candidates, one of them known: E max(best - loss, 0)."""
    covariance = np.diag([0.0, 4.0])
    found = acquisition.knowledge_gradient([1.0, 2.0], covariance)
    assert found[0] == 0
    assert found[1] == pytest.approx(
        acquisition.expected_improvement(Normal(np.array([2.0]), np.array([2.0])), 1.0)[0]
    )


def test_knowledge_gradient_of_degenerate_sets() -> None:
    assert (
        acquisition.knowledge_gradient(np.zeros(3), np.ones((3, 3))).tolist() == [0.0] * 3
    )  # all move alike
    assert acquisition.knowledge_gradient(np.zeros(3), np.zeros((3, 3))).tolist() == [0.0] * 3
    assert acquisition.knowledge_gradient([5.0], [[1.0]]).tolist() == [0.0]
    with pytest.raises(ValueError, match="must have shapes"):
        acquisition.knowledge_gradient([5.0], [[1.0, 2.0]])
    with pytest.raises(ValueError, match="`noise >= 0` must hold"):
        acquisition.knowledge_gradient([5.0], [[1.0]], -1.0)


def test_the_envelope_is_the_highest_line_everywhere() -> None:
    rng = np.random.default_rng(3)
    for _ in range(50):
        size = int(rng.integers(1, 9))
        a, b = rng.integers(-3, 4, size).astype(float), np.sort(rng.permutation(20)[:size]).astype(float)
        lines, crossings = acquisition.upper_envelope(a, b)
        assert (np.diff(crossings) > 0).all()
        z = np.linspace(-8, 8, 801)
        highest = (a[:, None] + b[:, None] * z).max(axis=0)
        mine = lines[np.searchsorted(crossings, z)]
        assert a[mine] + b[mine] * z == pytest.approx(highest)


def test_parego_targets() -> None:
    """With one objective the order; with two the augmented norm of the scaled losses under some weights."""
    rng = np.random.default_rng(0)
    one = acquisition.parego_targets(np.array([[3.0], [1.0], [2.0]]), rng)
    assert one == pytest.approx([1.05, 0.0, 0.525])
    losses = np.array([[0.0, 30.0], [10.0, 10.0], [5.0, 20.0], [np.nan, 1.0]])
    found = acquisition.parego_targets(losses, np.random.default_rng(5))
    weight = np.random.default_rng(5).dirichlet(np.ones(2))
    scaled = np.array([[0.0, 1.0], [1.0, 0.0], [0.5, 0.5]]) * weight
    assert found == pytest.approx([*scaled.max(axis=1) + 0.05 * scaled.sum(axis=1), np.inf])
