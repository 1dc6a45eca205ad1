"""One number out of several losses: what a single-objective method minimises.

Losses are `float64[n, m]`, or `float64[m]` for one candidate, minimised; the scores are `float64[n]` or
`float64[]`. A row with a value that is not finite (a failed trial) gets an infinite score: it comes last.

`weights` (`float64[m]`, finite, >= 0, not all 0) are importances: twice the weight, twice the concern. Scale
the losses first (`scaled`) unless their units already compare. Names as in Marler & Arora (2004), "Survey of
multi-objective optimization methods for engineering", section 3.

pymoo's ASF divides by its weights where `achievement` multiplies: pass it 1 / weights. Its Tchebicheff and
WeightedSum multiply as ours do.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

SOFT = (-0.07, -0.07)
"""(alpha, beta) of MNasNet's soft limit: twice the latency must buy 5 % of accuracy (log 1/1.05 / log 2)."""

HARD = (0.0, -1.0)
"""(alpha, beta) of MNasNet's hard limit: the accuracy alone within the target, cut in proportion beyond."""


def scaled(losses: ArrayLike) -> Floats:
    """`float64[n, m]`: each objective from 0 (best) to 1 (worst) over finite rows; a constant one is 0."""
    array = np.array(losses, dtype=np.float64)
    finite = array[np.isfinite(array).all(axis=1)]
    if not len(finite):
        return array
    low, high = finite.min(axis=0), finite.max(axis=0)
    return np.asarray((array - low) / np.where(high > low, high - low, 1.0))


def weighted_sum(losses: ArrayLike, weights: ArrayLike) -> Floats:
    """sum_i w_i f_i. It cannot reach the non-convex parts of a front."""
    values = _losses(losses)
    return _last_if_failed(values, (values * _weights(weights, values)).sum(axis=-1))


def weighted_exponential_sum(losses: ArrayLike, weights: ArrayLike, p: float = 2.0) -> Floats:
    """sum_i w_i f_i^p; a larger p reaches more of a non-convex front.

    Raises:
        ValueError: `p > 0` does not hold, or a loss is negative (its power would turn the order round).
    """
    values = _losses(losses)
    if not (np.isfinite(p) and p > 0):
        raise ValueError(f"`p > 0` must hold, but got {p=}")
    if (values < 0).any():
        raise ValueError(f"a power needs losses >= 0, but got {np.nanmin(values)}")
    return _last_if_failed(values, (_weights(weights, values) * values**p).sum(axis=-1))


def weighted_product(losses: ArrayLike, weights: ArrayLike) -> Floats:
    """prod_i f_i^w_i: units cancel out of the order, so nothing has to be scaled.

    Raises:
        ValueError: a loss is not positive.
    """
    values = _losses(losses)
    if (values <= 0).any():
        raise ValueError(f"a product of powers needs losses > 0, but got {np.nanmin(values)}")
    return _last_if_failed(values, np.prod(values ** _weights(weights, values), axis=-1))


def chebyshev(losses: ArrayLike, weights: ArrayLike, ideal: ArrayLike | None = None) -> Floats:
    """max_i w_i |f_i - z_i| with the ideal point z, 0 unless given. It reaches every Pareto-optimal point."""
    values = _losses(losses)
    away = _weights(weights, values) * np.abs(values - _point("ideal", ideal, values))
    return _last_if_failed(values, away.max(axis=-1))


def augmented_chebyshev(
    losses: ArrayLike, weights: ArrayLike, ideal: ArrayLike | None = None, rho: float = 0.05
) -> Floats:
    """max_i w_i |f_i - z_i| + rho sum_i w_i |f_i - z_i| (Knowles 2006, ParEGO): no merely weak optima.

    Raises:
        ValueError: `rho >= 0` does not hold.
    """
    values = _losses(losses)
    if not (np.isfinite(rho) and rho >= 0):
        raise ValueError(f"`rho >= 0` must hold, but got {rho=}")
    away = _weights(weights, values) * np.abs(values - _point("ideal", ideal, values))
    return _last_if_failed(values, away.max(axis=-1) + rho * away.sum(axis=-1))


def epsilon_constraint(losses: ArrayLike, objective: int, bounds: ArrayLike) -> Floats:
    """Loss number `objective`, infinite where another loss is beyond its bound (`float64[m]`, inf for none).

    The bound of `objective` itself is not looked at.

    Raises:
        ValueError: there is no such objective, or a bound is NaN.
    """
    values = _losses(losses)
    m = values.shape[-1]
    if not 0 <= objective < m:
        raise ValueError(f"`0 <= objective < {m}` must hold, but got {objective=}")
    limits = np.array(bounds, dtype=np.float64)
    if limits.shape != (m,) or np.isnan(limits).any():
        raise ValueError(f"bounds must be {m} numbers, inf for none, but got {limits.tolist()}")
    limits[objective] = np.inf
    within = (values <= limits).all(axis=-1)
    return _last_if_failed(values, np.where(within, values[..., objective], np.inf))


def achievement(
    losses: ArrayLike, weights: ArrayLike, reference: ArrayLike | None = None, rho: float = 0.0
) -> Floats:
    """max_i w_i (f_i - r_i) + rho sum_i w_i (f_i - r_i) (Wierzbicki 1980): negative is better than asked for.

    The preferences are the aspired losses `reference` (0 unless given), out of reach or within it; here it
    differs from `augmented_chebyshev`, whose ideal point nothing should be better than.

    Raises:
        ValueError: `rho >= 0` does not hold.
    """
    values = _losses(losses)
    if not (np.isfinite(rho) and rho >= 0):
        raise ValueError(f"`rho >= 0` must hold, but got {rho=}")
    away = _weights(weights, values) * (values - _point("reference", reference, values))
    return _last_if_failed(values, away.max(axis=-1) + rho * away.sum(axis=-1))


def penalty_boundary_intersection(
    losses: ArrayLike, direction: ArrayLike, ideal: ArrayLike | None = None, theta: float = 5.0
) -> Floats:
    """d1 + theta d2: how far along `direction` from the ideal point, and off it (Zhang & Li 2007, II-C).

    `direction` (`float64[m]`, >= 0) is where to go, not how much to care: the more of one objective, the
    more of its loss is accepted.

    Raises:
        ValueError: `theta >= 0` does not hold.
    """
    values = _losses(losses)
    if not (np.isfinite(theta) and theta >= 0):
        raise ValueError(f"`theta >= 0` must hold, but got {theta=}")
    unit = _weights(direction, values)
    unit = unit / np.linalg.norm(unit)
    away = values - _point("ideal", ideal, values)
    along = away @ unit
    off = np.linalg.norm(away - along[..., None] * unit, axis=-1)
    return _last_if_failed(values, np.abs(along) + theta * off)


def mnasnet_reward(
    accuracy: ArrayLike, latency: ArrayLike, target: float, exponents: tuple[float, float] = SOFT
) -> Floats:
    """accuracy x (latency / target)^w, to be *maximised* (Tan et al. 2019, eq. 2 and 3).

    Args:
        accuracy, latency: of one shape, which the rewards have too; `latency` in the unit of `target`, > 0.
        exponents: (alpha, beta): w is alpha within the target and beta beyond; `SOFT` or `HARD`.

    A value that is not finite gives -inf, the worst reward.

    Raises:
        ValueError: a latency or the target is not positive, an exponent is positive, or the shapes differ.
    """
    gain, spent = np.asarray(accuracy, dtype=np.float64), np.asarray(latency, dtype=np.float64)
    if gain.shape != spent.shape:
        raise ValueError(f"accuracy and latency must have one shape, but got {gain.shape} and {spent.shape}")
    if not (np.isfinite(target) and target > 0) or (spent <= 0).any():
        raise ValueError(f"`target > 0` and `latency > 0` must hold, but got {target=} and {spent.tolist()}")
    if not all(np.isfinite(w) and w <= 0 for w in exponents):
        raise ValueError(f"exponents <= 0 must hold, but got {exponents}")
    finite = np.isfinite(gain) & np.isfinite(spent)
    ratio = np.where(finite, spent, target) / target
    return np.where(finite, gain * ratio ** np.where(ratio <= 1, *exponents), -np.inf)


def _losses(losses: ArrayLike) -> Floats:
    values = np.asarray(losses, dtype=np.float64)
    if values.ndim not in (1, 2) or not values.shape[-1]:
        raise ValueError(f"losses must have shape [n, m] or [m], but got {values.shape}")
    return np.where(np.isfinite(values).all(axis=-1, keepdims=True), values, np.nan)


def _weights(weights: ArrayLike, losses: Floats) -> Floats:
    array, m = np.asarray(weights, dtype=np.float64), losses.shape[-1]
    if array.shape != (m,) or not np.isfinite(array).all() or (array < 0).any() or not array.any():
        raise ValueError(f"weights must be {m} numbers >= 0, not all 0, but got {array.tolist()}")
    return array


def _point(name: str, point: ArrayLike | None, losses: Floats) -> Floats:
    m = losses.shape[-1]
    array = np.zeros(m) if point is None else np.asarray(point, dtype=np.float64)
    if array.shape != (m,) or not np.isfinite(array).all():
        raise ValueError(f"{name} must be {m} finite numbers, but got {array.tolist()}")
    return array


def _last_if_failed(losses: Floats, scores: Floats) -> Floats:
    return np.where(np.isfinite(losses).all(axis=-1), scores, np.inf)
