"""A Gaussian process over blocks of features: a product of exponentials, plus a linear part.

    k(x, y) = v exp(-sum_b d_b(x, y) / l_b) + sum_b w_b <x_b, y_b> + noise,    d_b squared, of mean 1

Its hyperparameters are those of the largest marginal likelihood times a prior (Rasmussen and Williams 2006,
equation 5.8 and 5.9). The posterior grows row by row with the data and column by column with the candidates.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.linalg import LinAlgError, cho_factor, cho_solve, solve_triangular
from scipy.optimize import minimize

from nas.surrogates.features import Features, squared_distances
from nas.surrogates.model import Floats, Normal, Unfit

JITTER = 1e-8
"""Added to the diagonal, in units of the targets' variance."""

STEPS = 40
"""Most steps of the search for hyperparameters."""

# Log-normal priors, as (mean of log, standard deviation of log); targets are standardised.
PRIOR_VARIANCE = (0.5, 1.5)
PRIOR_LENGTH = (1.0, 1.5)
PRIOR_WEIGHT = (-3.0, 1.5)
PRIOR_NOISE = (np.log(0.01), 2.0)


@dataclass(frozen=True)
class Scaling:
    """What makes blocks comparable, from the rows of a sample: mean squared distances, and centres.

    Attributes:
        distances: `float64[blocks]`, mean squared distance between two rows; 1 where all are equal.
        centres: `float64[d_b]` of each block.
    """

    distances: Floats
    centres: tuple[Floats, ...]

    @classmethod
    def of(cls, blocks: Sequence[Floats]) -> Scaling:
        variances = np.array([block.var(axis=0).sum() for block in blocks])  # half the mean distance
        return cls(np.where(variances > 1e-12, 2 * variances, 1.0), tuple(b.mean(axis=0) for b in blocks))

    def products(self, a: Sequence[Floats], b: Sequence[Floats]) -> Floats:
        """`float64[blocks, n, m]`: centred inner products, of mean 1 on the diagonal."""
        found = np.empty((len(a), len(a[0]), len(b[0])))
        for number, (left, right) in enumerate(zip(a, b, strict=True)):
            centre = np.zeros(left.shape[1])  # labels met later are new columns
            centre[: len(self.centres[number])] = self.centres[number]
            np.matmul(left - centre, (right - centre).T, out=found[number])
            found[number] *= 2 / self.distances[number]
        return found


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

    def coordinates(self, blocks: Sequence[Floats]) -> tuple[Floats, Floats]:
        """(x, z), `float64[n, d]` each: k is v exp(-|x - x'|^2) + <z, z'>, noise left out."""
        scales = 1 / np.sqrt(self.scaling.distances * self.lengths)
        smooth = np.concatenate([block * scale for block, scale in zip(blocks, scales, strict=True)], axis=1)
        scales = np.sqrt(2 * self.weights / self.scaling.distances)
        linear = [block * scale for block, scale in zip(blocks, scales, strict=True)]
        for part, centre, scale in zip(linear, self.scaling.centres, scales, strict=True):
            part[:, : len(centre)] -= centre * scale  # labels met later than the centres are new columns
        return smooth, np.concatenate(linear, axis=1)

    def covariance(self, a: tuple[Floats, Floats], b: tuple[Floats, Floats]) -> Floats:
        """`float64[n, m]` between coordinates, noise left out."""
        (x, z), (y, w) = a, b
        return np.asarray(self.variance * np.exp(-squared_distances([x], [y])[0]) + z @ w.T)


def fit_kernel(blocks: Sequence[Floats], targets: Floats, scaling: Scaling) -> tuple[Kernel, float]:
    """The kernel of the largest posterior density, and the log marginal likelihood with it.

    Args:
        blocks: `float64[n, d_b]` of each block.
        targets: `float64[n]`, standardised.

    Raises:
        Unfit: there are fewer than two rows, or no kernel is positive definite.
    """
    count, number = len(targets), len(blocks)
    if count < 2:
        raise Unfit(f"a Gaussian process needs at least 2 values, but got {count}")
    distances = squared_distances(blocks, blocks) / scaling.distances[:, None, None]
    products = scaling.products(blocks, blocks)
    means = np.concatenate(
        [
            [PRIOR_VARIANCE[0], PRIOR_NOISE[0]],
            np.full(number, PRIOR_LENGTH[0]),
            np.full(number, PRIOR_WEIGHT[0]),
        ]
    )
    spreads = np.concatenate(
        [
            [PRIOR_VARIANCE[1], PRIOR_NOISE[1]],
            np.full(number, PRIOR_LENGTH[1]),
            np.full(number, PRIOR_WEIGHT[1]),
        ]
    )
    flat_distances, flat_products = distances.reshape(number, -1), products.reshape(number, -1)
    eye = np.eye(count)

    def negative(logs: Floats) -> tuple[float, Floats]:
        """Minus the log density and its gradient."""
        variance, noise = np.exp(logs[:2])
        lengths, weights = np.exp(logs[2 : 2 + number]), np.exp(logs[2 + number :])
        smooth = variance * np.exp(-(1 / lengths) @ flat_distances).reshape(count, count)
        matrix = smooth + (weights @ flat_products).reshape(count, count) + (noise + JITTER) * eye
        off = (logs - means) / spreads
        try:
            factor = cho_factor(matrix, lower=True, check_finite=False)
        except LinAlgError:
            return 1e10, np.zeros_like(logs)
        solved = cho_solve(factor, targets, check_finite=False)
        value = 0.5 * targets @ solved + np.log(np.diag(factor[0])).sum() + 0.5 * count * np.log(2 * np.pi)
        inner = np.outer(solved, solved) - cho_solve(factor, eye, check_finite=False)
        gradient = np.empty_like(logs)
        weighted = (inner * smooth).ravel()
        gradient[0] = weighted.sum()
        gradient[1] = noise * np.trace(inner)
        gradient[2 : 2 + number] = (flat_distances @ weighted) / lengths
        gradient[2 + number :] = weights * (flat_products @ inner.ravel())
        return float(value + 0.5 * off @ off), -0.5 * gradient + off / spreads

    found = minimize(
        negative,
        means,
        jac=True,
        method="L-BFGS-B",
        bounds=[(-14.0, 8.0)] * len(means),
        options={"maxiter": STEPS},
    )
    if not np.isfinite(found.fun) or found.fun >= 1e10:
        raise Unfit(
            f"the kernel of {count} values must be positive definite, but no hyperparameters make it so"
        )
    off = (found.x - means) / spreads
    return Kernel.of(found.x, scaling), -float(found.fun - 0.5 * off @ off)


class Posterior:
    """A process given data, and its prediction for every row of `features` that was asked about.

    Values come in the order they were added; a row of the Cholesky factor depends on those before it only.
    Every row that is met is a column: its coordinates, its covariance with the data behind the factor's
    inverse, its mean, and the variance that is left.
    """

    def __init__(self, kernel: Kernel, features: Features) -> None:
        self.kernel, self._features = kernel, features
        self._data: list[int] = []  # columns
        self._factor = np.zeros((16, 16))
        self._targets = np.zeros(16)
        self._whitened = np.zeros(16)  # the factor's inverse times the targets
        self._columns: dict[int, int] = {}  # row of the features -> column
        self._smooth, self._linear = np.zeros((64, 0)), np.zeros((64, 0))
        self._cross = np.zeros((16, 64))
        self._mean, self._left = np.zeros(64), np.zeros(64)

    def __len__(self) -> int:
        return len(self._data)

    def begin(self, rows: Sequence[int], targets: Floats) -> None:
        """The first values, `targets` (`float64[n]`) at these rows, all at once.

        Raises:
            Unfit: their covariance is not positive definite.
        """
        columns, n = self._cover(rows), len(rows)
        self._room(n, len(self._columns))
        data = self._at(columns)
        noise = (self.kernel.noise + JITTER) * np.eye(n)
        try:
            self._factor[:n, :n] = np.linalg.cholesky(self.kernel.covariance(data, data) + noise)
        except LinAlgError as error:
            raise Unfit(f"the kernel of {n} values must be positive definite, but it is singular") from error
        self._data, self._targets[:n] = columns, targets
        lower = self._factor[:n, :n]
        self._whitened[:n] = solve_triangular(lower, targets, lower=True, check_finite=False)
        known = slice(0, len(self._columns))
        self._condition(known)

    def _condition(self, columns: slice) -> None:
        """Fills what all data say of columns whose prior was written."""
        n = len(self._data)
        across = self.kernel.covariance(self._at(self._data), self._at(columns))
        cross = solve_triangular(self._factor[:n, :n], across, lower=True, check_finite=False)
        self._cross[:n, columns] = cross
        self._mean[columns] = self._whitened[:n] @ cross
        self._left[columns] -= np.einsum("ij,ij->j", cross, cross)

    def add(self, row: int, target: float) -> None:
        """One more value, `target` at this row of the features."""
        (column,) = self._cover([row])
        n, m = len(self._data), len(self._columns)
        self._room(n + 1, m)
        line = self._cross[:n, column].copy()
        pivot = np.sqrt(max(float(self._left[column]) + self.kernel.noise, 0.0) + JITTER)
        self._factor[n, :n], self._factor[n, n] = line, pivot
        self._targets[n] = target
        self._whitened[n] = (target - line @ self._whitened[:n]) / pivot
        across = self.kernel.covariance(self._at([column]), self._at(slice(0, m)))[0]
        new = (across - line @ self._cross[:n, :m]) / pivot
        self._cross[n, :m] = new
        self._mean[:m] += new * self._whitened[n]
        self._left[:m] -= new**2
        self._data.append(column)

    def predict(self, rows: Sequence[int], given: Sequence[int] = ()) -> Normal:
        """Of the values without noise at these rows; the deviation as if those at `given` were known."""
        columns = self._cover(rows)
        mean, left = self._mean[columns], self._left[columns]
        if given:
            across = self.covariance(rows, given)
            left = left - np.einsum("ij,ji->i", across, np.linalg.solve(self._among(given), across.T))
        return Normal(mean, np.sqrt(np.maximum(left, 1e-12)))

    @property
    def rows(self) -> list[int]:
        """Those of the data, in order."""
        rows = list(self._columns)
        return [rows[column] for column in self._data]

    def _among(self, given: Sequence[int]) -> Floats:
        """Covariance of the values at these rows, noise included."""
        noise = (self.kernel.noise + JITTER) * np.eye(len(given))
        return np.asarray(self.covariance(given, given) + noise)

    def covariance(self, rows: Sequence[int], others: Sequence[int], given: Sequence[int] = ()) -> Floats:
        """`float64[n, m]`, of the values without noise, given the data and the values at `given`."""
        if given:
            across, beyond = self.covariance(rows, given), self.covariance(given, others)
            known = across @ np.linalg.solve(self._among(given), beyond)
            return np.asarray(self.covariance(rows, others) - known)
        left, right = self._cover(rows), self._cover(others)
        n = len(self._data)
        prior = self.kernel.covariance(self._at(left), self._at(right))
        return np.asarray(prior - self._cross[:n, left].T @ self._cross[:n, right])

    def leave_one_out(self) -> tuple[Normal, Floats]:
        """Of each value, noise included, given all others but it; and the values (`float64[n]`).

        Exact, from one inverse (Rasmussen and Williams 2006, equation 5.12).
        """
        n = len(self._data)
        inverse = solve_triangular(self._factor[:n, :n], np.eye(n), lower=True, check_finite=False)
        precision = np.einsum("ij,ij->j", inverse, inverse)
        targets = self._targets[:n]
        off = (inverse.T @ self._whitened[:n]) / precision
        return Normal(targets - off, np.sqrt(1 / precision)), targets

    def _at(self, columns: Sequence[int] | slice) -> tuple[Floats, Floats]:
        return self._smooth[columns], self._linear[columns]

    def _cover(self, rows: Sequence[int]) -> list[int]:
        """The columns of these rows; those not met before get new ones."""
        new = [row for row in dict.fromkeys(rows) if row not in self._columns]
        if new:
            n, m = len(self._data), len(self._columns)
            self._columns.update((row, m + place) for place, row in enumerate(new))
            self._room(n, m + len(new))
            columns = slice(m, m + len(new))
            self._place(new, columns)
            here = self._at(columns)
            self._left[columns] = self.kernel.variance + np.einsum("ij,ij->i", here[1], here[1])
            self._mean[columns] = 0.0
            if n:
                self._condition(columns)
        return [self._columns[row] for row in rows]

    def _place(self, rows: list[int], columns: slice) -> None:
        """Writes the coordinates of new columns; those of all where blocks have become wider."""
        smooth, linear = self.kernel.coordinates(self._features.blocks(rows))
        if smooth.shape[1] != self._smooth.shape[1]:
            self._smooth, self._linear = (np.zeros((len(self._mean), smooth.shape[1])) for _ in range(2))
            columns = slice(0, len(self._columns))
            smooth, linear = self.kernel.coordinates(self._features.blocks(list(self._columns)))
        self._smooth[columns], self._linear[columns] = smooth, linear

    def _room(self, n: int, m: int) -> None:
        height, width = self._cross.shape
        if n <= height and m <= width:
            return
        tall, wide = max(height, 2 * n if n > height else 0), max(width, 2 * m if m > width else 0)
        self._factor = _grown(self._factor, (tall, tall))
        self._targets, self._whitened = _grown(self._targets, (tall,)), _grown(self._whitened, (tall,))
        self._cross = _grown(self._cross, (tall, wide))
        self._mean, self._left = _grown(self._mean, (wide,)), _grown(self._left, (wide,))
        self._smooth = _grown(self._smooth, (wide, self._smooth.shape[1]))
        self._linear = _grown(self._linear, (wide, self._linear.shape[1]))


def _grown(array: Floats, shape: tuple[int, ...]) -> Floats:
    larger = np.zeros(shape)
    larger[tuple(slice(size) for size in array.shape)] = array
    return larger
