"""A Gaussian process over blocks of features: a product of exponentials, plus a linear part.

    k(x, y) = v exp(-sum_b d_b(x, y) / l_b) + sum_b w_b <x_b, y_b> + noise,    d_b squared, of mean 1

Its hyperparameters are those of the largest marginal likelihood times a prior (Rasmussen and Williams 2006,
equation 5.8 and 5.9). `nas.surrogates.posterior` conditions it on data.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.linalg.lapack import dpotrf, dpotri, dpotrs
from scipy.optimize import minimize

from nas.surrogates.model import Floats, Unfit

JITTER = 1e-8
"""Added to the diagonal, in units of the targets' variance."""

STEPS = 10
"""Most steps of the search for hyperparameters. With 15 and 40 the gaps were as good (16 to 60 seeds, eight
benchmarks)."""

MORE = 5
"""Most steps from a kernel that was fitted to like targets."""

# Log-normal priors, as (mean of log, standard deviation of log); targets are standardised.
PRIOR_VARIANCE = (0.5, 1.5)
PRIOR_LENGTH = (1.0, 1.5)
PRIOR_WEIGHT = (-3.0, 1.5)
PRIOR_NOISE = (np.log(0.01), 2.0)

START_VARIANCE, START_NOISE, START_WEIGHT = -3.0, -7.0, -1.0
"""Logs of v, the noise and w_b (less what a block is doubted) at which the search for hyperparameters begins;
lengths begin at the prior's mode. That is a process which is nearly linear, and trusts its values.

From there ten steps came on the mean within .14 of the best log density that was known, at worst within 2.2;
from the prior's mode within .39 and 13.7, with more steps .27 and 13.7: it ends in a worse mode where a
linear part explains nearly all, as of latencies (fits to 30 to 40 values of searches of four benchmarks).
"""


@dataclass(frozen=True)
class Scaling:
    """What makes blocks comparable, from the rows of a sample: mean squared distances, and centres.

    Attributes:
        distances: `float64[blocks]`, mean squared distance between two rows; 1 where all are equal.
        centres: `float64[d_b]` of each block.
        doubts: `float64[blocks]`, by how much less a block is expected to matter, on a log scale.
    """

    distances: Floats
    centres: tuple[Floats, ...]
    doubts: Floats

    @classmethod
    def of(cls, blocks: Sequence[Floats], doubts: Floats | None = None) -> Scaling:
        variances = np.array([block.var(axis=0).sum() for block in blocks])  # half the mean distance
        distances = np.where(variances > 1e-12, 2 * variances, 1.0)
        centres = tuple(block.mean(axis=0) for block in blocks)
        return cls(distances, centres, np.zeros(len(blocks)) if doubts is None else doubts)

    def scaled(self, blocks: Sequence[Floats]) -> list[Floats]:
        """The blocks centred, and such that two rows of the sample are at a mean squared distance of 2.

        Labels met later than the sample are new columns, of centre 0.
        """
        found = []
        for block, centre, distance in zip(blocks, self.centres, self.distances, strict=True):
            values = np.array(block, dtype=np.float64)
            values[:, : len(centre)] -= centre
            values *= np.sqrt(2 / distance)
            found.append(values)
        return found


def products(a: Sequence[Floats], b: Sequence[Floats]) -> Floats:
    """`float64[blocks, n, m]`: inner products, block by block."""
    found = np.empty((len(a), len(a[0]), len(b[0])))
    for left, right, out in zip(a, b, found, strict=True):
        np.matmul(left, right.T, out=out)
    return found


def squares(blocks: Sequence[Floats]) -> Floats:
    """`float64[blocks, n]`: what `products` has on the diagonal."""
    return np.array([np.einsum("ij,ij->i", block, block) for block in blocks])


@dataclass(frozen=True)
class Kernel:
    """Hyperparameters.

    Attributes:
        variance: v. lengths: l_b, `float64[blocks]`. weights: w_b, `float64[blocks]`. noise: its variance.
    """

    variance: float
    lengths: Floats
    weights: Floats
    noise: float
    scaling: Scaling

    @classmethod
    def of(cls, logs: Floats, scaling: Scaling) -> Kernel:
        blocks = len(scaling.distances)
        values = np.exp(logs)
        return cls(float(values[0]), values[2 : 2 + blocks], values[2 + blocks :], float(values[1]), scaling)

    @property
    def logs(self) -> Floats:
        """As `of` takes them."""
        values = [self.variance, self.noise, *self.lengths, *self.weights]
        return np.asarray(np.log(values))

    @cached_property
    def _factors(self) -> Floats:
        """Of inner products, in the exponent and in the linear part, `float64[2, blocks]`."""
        return np.stack([1 / self.lengths, self.weights])

    def variances(self, squares: Floats) -> Floats:
        """`float64[n]`, noise left out, of rows with these `squares` (`float64[blocks, n]`)."""
        return np.asarray(self.variance + self.weights @ squares)

    def covariance(self, products: Floats, a: Floats, b: Floats) -> Floats:
        """`float64[n, m]`, noise left out.

        Args:
            products: of scaled blocks, `float64[blocks, n, m]`.
            a, b: their `squares`, `float64[blocks, n]` and `float64[blocks, m]`.
        """
        blocks, n, m = products.shape
        smooth, linear = (self._factors @ products.reshape(blocks, n * m)).reshape(2, n, m)
        halves = self._factors[0] / 2
        smooth -= (halves @ a)[:, None] - np.log(self.variance)
        smooth -= halves @ b
        linear += np.exp(smooth, out=smooth)
        return np.asarray(linear)


def _logs(variance: float, noise: float, length: float, weight: float, doubts: Floats) -> Floats:
    """One length and one weight for all blocks, but for what each is doubted; ordered as `Kernel.logs`."""
    return np.concatenate([[variance, noise], length + doubts, weight - doubts])


def fit_kernel(
    blocks: Sequence[Floats], targets: Floats, scaling: Scaling, start: Kernel | None = None
) -> tuple[Kernel, float]:
    """The kernel of the largest posterior density, and the log marginal likelihood with it.

    Args:
        blocks: `float64[n, d_b]` of each block.
        targets: `float64[n]`, standardised.
        start: one that is about as good, from which few steps suffice; else it begins at a nearly linear one.

    Raises:
        Unfit: there are fewer than two rows, or no kernel is positive definite.
    """
    count, number = len(targets), len(blocks)
    if count < 2:
        raise Unfit(f"a Gaussian process needs at least 2 values, but got {count}")
    rows = scaling.scaled(blocks)
    halves = squares(rows) / 2
    first, second = np.tril_indices(count)
    lower = first * count + second  # of a flat matrix; all are symmetric
    inner = products(rows, rows).reshape(number, count * count).take(lower, axis=1)
    distances = halves.take(first, axis=1)
    distances += halves.take(second, axis=1)
    distances -= inner
    np.maximum(distances, 0.0, out=distances)
    doubts = scaling.doubts
    means = _logs(PRIOR_VARIANCE[0], PRIOR_NOISE[0], PRIOR_LENGTH[0], PRIOR_WEIGHT[0], doubts)
    spreads = _logs(PRIOR_VARIANCE[1], PRIOR_NOISE[1], PRIOR_LENGTH[1], PRIOR_WEIGHT[1], 0 * doubts)
    linear = _logs(START_VARIANCE, START_NOISE, PRIOR_LENGTH[0], START_WEIGHT, doubts)
    twice = np.where(first == second, 1.0, 2.0)
    flat = np.zeros(count * count)
    matrix = flat.reshape(count, count)
    diagonal = slice(None, None, count + 1)

    def negative(logs: Floats) -> tuple[float, Floats]:
        """Minus the log density and its gradient."""
        variance, noise = np.exp(logs[:2])
        lengths, weights = np.exp(logs[2 : 2 + number]), np.exp(logs[2 + number :])
        smooth = variance * np.exp(-(1 / lengths) @ distances)
        flat[lower] = smooth + weights @ inner
        flat[diagonal] += noise + JITTER
        factor, failed = dpotrf(matrix, lower=1)
        if failed:
            return 1e10, np.zeros_like(logs)
        solved = dpotrs(factor, targets, lower=1)[0]
        value = 0.5 * targets @ solved + np.log(factor.diagonal()).sum() + 0.5 * count * np.log(2 * np.pi)
        change = np.outer(solved, solved) - dpotri(factor, lower=1)[0]
        off = (logs - means) / spreads
        gradient = np.empty_like(logs)
        weighted = twice * change.ravel().take(lower)
        gradient[1] = noise * change.trace()
        gradient[2 + number :] = weights * (inner @ weighted)
        weighted *= smooth
        gradient[0] = weighted.sum()
        gradient[2 : 2 + number] = (distances @ weighted) / lengths
        return float(value + 0.5 * off @ off), -0.5 * gradient + off / spreads

    found = minimize(
        negative,
        linear if start is None else start.logs,
        jac=True,
        method="L-BFGS-B",
        bounds=[(-14.0, 8.0)] * len(means),
        options={"maxiter": STEPS if start is None else MORE},
    )
    if not np.isfinite(found.fun) or found.fun >= 1e10:
        raise Unfit(
            f"the kernel of {count} values must be positive definite, but no hyperparameters make it so"
        )
    off = (found.x - means) / spreads
    return Kernel.of(found.x, scaling), -float(found.fun - 0.5 * off @ off)
