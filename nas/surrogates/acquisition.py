"""What a candidate promises, from its prediction. Losses are minimised.

Improvements and gains are to be maximised, bounds and draws, which are losses, minimised.
`best` is the least loss that is known, in the unit of the predictions; where std is 0 the limits hold.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import erfcx, ndtr

from nas import scalarisation
from nas.surrogates.model import Floats, Normal

LOG_ROOT_TWO_PI = 0.5 * np.log(2 * np.pi)
FAR = -1e4
"""Below this z the last form of log h is used: there both have a relative error of h of about 1e-8."""

CERTAIN = 1e-150
"""A smaller standard deviation counts as 0."""

JITTER = 1e-9
"""Added to the diagonal of a covariance, in units of its largest entry."""


# --- one objective, independent predictions ------------------------------------------------------------


def probability_of_improvement(predicted: Normal, best: float) -> Floats:
    """P(loss < best) = Phi((best - mean) / std), `float64[n]` (Kushner 1964)."""
    return np.asarray(ndtr(_z(predicted, best)))


def expected_improvement(predicted: Normal, best: float) -> Floats:
    """E max(best - loss, 0) = std h(z), h(z) = phi(z) + z Phi(z) (Jones et al. 1998), `float64[n]`."""
    with np.errstate(divide="ignore"):
        return np.exp(log_expected_improvement(predicted, best))


def log_expected_improvement(predicted: Normal, best: float) -> Floats:
    """log E max(best - loss, 0), exact where the improvement itself underflows (Ament et al. 2023, eq. 8)."""
    certain = predicted.std < CERTAIN
    std = np.where(certain, 1.0, predicted.std)
    with np.errstate(divide="ignore"):
        known = np.log(np.maximum(best - predicted.mean, 0.0))
        return np.where(certain, known, _log_h((best - predicted.mean) / std) + np.log(std))


def confidence_bound(predicted: Normal, kappa: float = 0.5) -> Floats:
    """mean - kappa std: the loss to hope for, to be minimised (BANANAS' UCB has kappa = .5), `float64[n]`."""
    return predicted.mean - kappa * predicted.std


def independent_thompson_sampling(predicted: Normal, rng: np.random.Generator) -> Floats:
    """A loss drawn for each candidate alone (White et al. 2021, eq. 2, "ITS"), `float64[n]`."""
    return np.asarray(rng.normal(predicted.mean, predicted.std))


def _z(predicted: Normal, best: float) -> Floats:
    certain = predicted.std < CERTAIN
    known = np.where(predicted.mean < best, np.inf, -np.inf)
    z = (best - predicted.mean) / np.where(certain, 1.0, predicted.std)
    return np.asarray(np.where(certain, known, z))


def _log_h(z: Floats) -> Floats:
    """log(phi(z) + z Phi(z)) in three forms (Ament et al. 2023, eq. 9 and appendix A.1), `float64[n]`."""
    near = np.clip(z, -1.0, 1e150)
    middle = np.clip(z, FAR, -1.0)
    far = np.clip(z, -1e150, FAR)
    close = np.log(np.exp(-0.5 * near**2 - LOG_ROOT_TWO_PI) + near * ndtr(near))
    # h(z) = phi(z) (1 - |z| Phi(z) / phi(z)), Phi(z) / phi(z) = sqrt(pi / 2) erfcx(|z| / sqrt 2)
    ratio = np.sqrt(np.pi / 2) * erfcx(-middle / np.sqrt(2)) * -middle
    tail = -0.5 * middle**2 - LOG_ROOT_TWO_PI + np.log1p(-np.minimum(ratio, 1 - 1e-16))
    last = -0.5 * far**2 - LOG_ROOT_TWO_PI - 2 * np.log(-far)
    return np.asarray(np.where(z > -1.0, close, np.where(z > FAR, tail, last)))


# --- predictions that hang together --------------------------------------------------------------------


def thompson(mean: ArrayLike, covariance: ArrayLike, rng: np.random.Generator, draws: int = 1) -> Floats:
    """Losses drawn jointly, `float64[draws, n]`; each draw is to be minimised (Thompson 1933).

    Args:
        mean, covariance: `float64[n]` and `float64[n, n]`, positive semi-definite.
    """
    mu, sigma = _joint(mean, covariance)
    jitter = JITTER * np.diag(sigma).max(initial=CERTAIN) * np.eye(len(mu))
    try:
        root = np.linalg.cholesky(sigma + jitter)  # it hardly changes where sigma hardly does
    except np.linalg.LinAlgError:  # rounding made it indefinite by more than that
        values, vectors = np.linalg.eigh(sigma)
        root = vectors * np.sqrt(np.maximum(values, 0.0))
    return np.asarray(mu + rng.standard_normal((draws, len(mu))) @ root.T)


def knowledge_gradient(mean: ArrayLike, covariance: ArrayLike, noise: float = 0.0) -> Floats:
    """min_i mean_i - E min_i mean'_i, mean' the mean after one evaluation of each candidate, `float64[n]`.

    Exact for a finite set (Frazier et al. 2009, eq. 14 and algorithm 2), O(n^2 log n).

    Args:
        mean, covariance: of the losses of all candidates, `float64[n]` and `float64[n, n]`.
        noise: variance of an evaluation.

    Raises:
        ValueError: the shapes do not fit, or `noise >= 0` does not hold.
    """
    mu, sigma = _joint(mean, covariance)
    if not noise >= 0:
        raise ValueError(f"`noise >= 0` must hold, but got {noise=}")
    gains = np.zeros(len(mu))
    for place in range(len(mu)):
        variance = sigma[place, place] + noise
        if variance > 0:
            gains[place] = expected_maximum_gain(-mu, -sigma[:, place] / np.sqrt(variance))
    return gains


def expected_maximum_gain(a: Floats, b: Floats) -> float:
    """h(a, b) = E max_i (a_i + b_i Z) - max_i a_i, Z standard normal (Frazier et al. 2009, algorithm 2)."""
    order = np.lexsort((a, b))
    a, b = a[order], b[order]
    last = np.append(b[1:] != b[:-1], True)  # of equal slopes the highest line
    a, b = a[last], b[last]
    lines, crossings = upper_envelope(a, b)
    slopes = np.diff(b[lines])
    z = -np.abs(crossings)
    # f(z) = phi(z) + z Phi(z) (eq. 14)
    with np.errstate(divide="ignore"):
        return float((slopes * np.exp(_log_h(z))).sum())


def upper_envelope(a: Floats, b: Floats) -> tuple[NDArray[np.int64], Floats]:
    """Which of the lines a_i + b_i z are the highest somewhere, and where one takes over from the last.

    Args:
        a, b: `float64[n]`, b strictly ascending.

    Returns:
        Indices `int[k]` in order, and crossings `float64[k - 1]`, ascending.
    """
    kept = [0]
    crossings: list[float] = []
    for i in range(1, len(a)):
        while True:
            crossing = float((a[kept[-1]] - a[i]) / (b[i] - b[kept[-1]]))
            if crossings and crossing <= crossings[-1]:
                kept.pop()
                crossings.pop()
                continue
            break
        kept.append(i)
        crossings.append(crossing)
    return np.array(kept), np.array(crossings)


def _joint(mean: ArrayLike, covariance: ArrayLike) -> tuple[Floats, Floats]:
    mu, sigma = np.asarray(mean, dtype=np.float64), np.asarray(covariance, dtype=np.float64)
    if mu.ndim != 1 or sigma.shape != (len(mu), len(mu)):
        raise ValueError(
            f"mean and covariance must have shapes [n] and [n, n], but got {mu.shape} and {sigma.shape}"
        )
    return mu, sigma


# --- several objectives --------------------------------------------------------------------------------


def parego_targets(losses: Floats, rng: np.random.Generator, rho: float = 0.05) -> Floats:
    """One number a row for one model to learn, less is better, `float64[n]` (Knowles 2006, ParEGO, eq. 2).

    The augmented Chebyshev norm of the losses (`float64[n, m]`) scaled to [0, 1], under weights that are
    drawn uniformly from the simplex; infinite where a loss is not finite.
    """
    weights = rng.dirichlet(np.ones(losses.shape[1]))
    return scalarisation.augmented_chebyshev(scalarisation.scaled(losses), weights, rho=rho)
