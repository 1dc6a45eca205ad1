"""Losses on a scale on which they are closer to normal."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import ndtr
from scipy.stats import lognorm

from nas.surrogates.model import Normal
from nas.surrogates.warp import CERTAIN, Warp, _cdf, warps

LOSSES = np.array([5.5, 6.0, 7.0, 9.0, 20.0, 90.0])


@pytest.mark.parametrize("warp", [*warps(LOSSES), *warps(-LOSSES)])
def test_targets_are_standardised_and_lead_back(warp: Warp) -> None:
    losses = LOSSES if warp.shift >= 0 and warp.centre > -1 else -LOSSES
    targets = warp.targets(losses)
    assert (targets.mean(), targets.std()) == pytest.approx((0, 1))
    assert (np.diff(targets) * np.diff(losses) > 0).all()
    np.testing.assert_allclose(warp.losses(targets), losses)
    step = 1e-6
    slopes = (warp.targets(losses + step) - warp.targets(losses - step)) / (2 * step)
    assert warp.jacobian == pytest.approx(np.log(slopes).sum(), rel=1e-5)


def test_which_there_are() -> None:
    assert [(warp.log, warp.shift) for warp in warps(LOSSES)] == [(False, 0.0), (True, 0.0)]
    negative = warps(-LOSSES)  # an accuracy that is maximised, say
    assert [warp.log for warp in negative] == [False, True]
    assert negative[1].shift == pytest.approx(-90 - 0.1 * 82)
    assert len(warps(np.array([-1.0, -1.0, -1.0]))) == 1


def test_equal_losses_are_targets_of_zero() -> None:
    for warp in warps(np.full(4, 3.0)):
        assert (warp.targets(np.full(4, 3.0)) == 0).all()
        assert warp.losses(np.zeros(1))[0] == pytest.approx(3)


def test_lognormal_closed_form() -> None:
    warp = Warp.to(LOSSES, log=True)
    prediction = Normal(np.array([0.3]), np.array([0.8]))
    loss = lognorm(s=0.8 * warp.scale, scale=np.exp(warp.centre + 0.3 * warp.scale))
    grid = np.linspace(0, 12, 200_001)
    expected = np.trapezoid(loss.cdf(grid), grid)  # E[max(level - loss, 0)] = integral of the cdf
    assert warp.expected_below(np.array([12.0]), prediction)[0, 0] == pytest.approx(expected, rel=1e-6)
    assert warp.chances_below(np.array([12.0]), prediction)[0, 0] == pytest.approx(loss.cdf(12))
    assert warp.chances_below(np.array([0.0]), prediction)[0, 0] == 0
    assert (warp.expected_below(np.array([-1.0, 0.0]), prediction) == 0).all()


def test_what_lies_below_the_shift_is_not_lost() -> None:
    warp = Warp.to(LOSSES, log=True)
    assert np.isfinite(warp.targets(np.array([-3.0]))).all()
    assert np.isfinite(warp.losses(np.array([1e6]))).all()


def test_cdf_that_is_mostly_certain_is_the_usual_one() -> None:
    z = np.concatenate(
        [np.linspace(-60, 60, 2001), [-CERTAIN, CERTAIN, np.nan], np.linspace(-1e4, 1e4, 20_001)]
    )
    assert (np.abs(z) < CERTAIN).mean() < 1 / 3
    np.testing.assert_array_equal(_cdf(z), ndtr(z))
    np.testing.assert_array_equal(_cdf(z[:2001].reshape(3, -1)), ndtr(z[:2001]).reshape(3, -1))
