"""A Gaussian process over blocks of features: a product of exponentials, plus a linear part.

    k(x, y) = v exp(-sum_b d_b(x, y) / l_b) + sum_b w_b <x_b, y_b> + noise,    d_b squared, of mean 1

Its hyperparameters are those of the largest marginal likelihood times a prior (Rasmussen and Williams 2006,
equation 5.8 and 5.9). The posterior grows row by row with the data and column by column with the candidates.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.linalg.lapack import dpotrf, dpotri, dpotrs, dtrtri
from scipy.optimize import minimize

from nas.surrogates.features import Features, squared_distances
from nas.surrogates.model import Floats, Normal, Unfit

JITTER = 1e-8
"""Added to the diagonal, in units of the targets' variance."""

STEPS = 15
"""Most steps of the search for hyperparameters. With 40 the gaps were the same (20 seeds, 700-719), and
fits to up to 100 rows of NAS-Bench-201 had at most .011 more log evidence."""

MORE = 5
"""Most steps from a kernel that was fitted to like targets."""

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

    def products(self, a: Sequence[Floats], b: Sequence[Floats]) -> Floats:
        """`float64[blocks, n, m]`: centred inner products, of mean 1 on the diagonal."""
        found = np.empty((len(a), len(a[0]), len(b[0])))
        for number, (left, right) in enumerate(zip(a, b, strict=True)):
            centre = np.zeros(left.shape[1])  # labels met later are new columns
            centre[: len(self.centres[number])] = self.centres[number]
            np.matmul(left - centre, (right - centre).T, out=found[number])
            found[number] *= 2 / self.distances[number]
        return found


class Coordinates(NamedTuple):
    """Rows as a kernel sees them.

    Attributes:
        widths: of the blocks.
        values: x, of all blocks side by side, centred, `float64[n, d]`.
        squares: sum_b |x_b|^2 / l_b, `float64[n]`, of comparable blocks.
        prior: the variance at x, `float64[n]`.
    """

    widths: tuple[int, ...]
    values: Floats
    squares: Floats
    prior: Floats

    def at(self, rows: NDArray[np.int64] | slice) -> Coordinates:
        """Some of them."""
        return Coordinates(self.widths, self.values[rows], self.squares[rows], self.prior[rows])


class Columns(NamedTuple):
    """Those of blocks side by side.

    Attributes:
        slices: of each block. centres: what is taken from each column.
        near, weights: of each column what its square adds to `squares`, and to the linear part.
    """

    slices: list[slice]
    centres: Floats
    near: Floats
    weights: Floats


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
    _columns: dict[tuple[int, ...], Columns] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

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
        """What inner products of a block add to the exponent and to the linear part, `float64[2, blocks]`."""
        return np.stack([2 / self.lengths, 2 * self.weights]) / self.scaling.distances

    def coordinates(self, blocks: Sequence[Floats]) -> Coordinates:
        """Those of rows whose blocks are given."""
        widths = tuple([block.shape[1] for block in blocks])
        columns = self._of(widths)
        values = np.concatenate(blocks, axis=1)
        values -= columns.centres
        squares = values * values
        return Coordinates(widths, values, squares @ columns.near, self.variance + squares @ columns.weights)

    def _of(self, widths: tuple[int, ...]) -> Columns:
        found = self._columns.get(widths)
        if found is None:
            ends = np.cumsum(widths).tolist()
            slices = [slice(end - width, end) for end, width in zip(ends, widths, strict=True)]
            centres = [  # labels met later than the centres are new columns
                np.concatenate([centre, np.zeros(width - len(centre))])
                for centre, width in zip(self.scaling.centres, widths, strict=True)
            ]
            near, weights = np.repeat(self._factors, widths, axis=1)
            found = self._columns[widths] = Columns(slices, np.concatenate(centres), near / 2, weights)
        return found

    def covariance(self, a: Coordinates, b: Coordinates) -> Floats:
        """`float64[n, m]`, noise left out."""
        n, m = len(a.values), len(b.values)
        products = np.empty((len(a.widths), n, m))
        for block, columns in enumerate(self._of(a.widths).slices):
            np.matmul(a.values[:, columns], b.values[:, columns].T, out=products[block])
        smooth, linear = (self._factors @ products.reshape(len(products), n * m)).reshape(2, n, m)
        smooth -= a.squares[:, None] - np.log(self.variance)
        smooth -= b.squares
        linear += np.exp(smooth, out=smooth)
        return np.asarray(linear)


def fit_kernel(
    blocks: Sequence[Floats], targets: Floats, scaling: Scaling, start: Kernel | None = None
) -> tuple[Kernel, float]:
    """The kernel of the largest posterior density, and the log marginal likelihood with it.

    Args:
        blocks: `float64[n, d_b]` of each block.
        targets: `float64[n]`, standardised.
        start: one that is about as good, from which few steps suffice; else it begins at the prior's mode.

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
            PRIOR_LENGTH[0] + scaling.doubts,
            PRIOR_WEIGHT[0] - scaling.doubts,
        ]
    )
    spreads = np.concatenate(
        [
            [PRIOR_VARIANCE[1], PRIOR_NOISE[1]],
            np.full(number, PRIOR_LENGTH[1]),
            np.full(number, PRIOR_WEIGHT[1]),
        ]
    )
    lower = np.tril_indices(count)  # all is symmetric
    distances, products = distances[:, lower[0], lower[1]], products[:, lower[0], lower[1]]
    twice = np.where(lower[0] == lower[1], 1.0, 2.0)
    matrix = np.zeros((count, count))

    def negative(logs: Floats) -> tuple[float, Floats]:
        """Minus the log density and its gradient."""
        variance, noise = np.exp(logs[:2])
        lengths, weights = np.exp(logs[2 : 2 + number]), np.exp(logs[2 + number :])
        smooth = variance * np.exp(-(1 / lengths) @ distances)
        matrix[lower] = smooth + weights @ products
        np.fill_diagonal(matrix, matrix.diagonal() + noise + JITTER)
        factor, failed = dpotrf(matrix, lower=1)
        if failed:
            return 1e10, np.zeros_like(logs)
        solved = dpotrs(factor, targets, lower=1)[0]
        value = 0.5 * targets @ solved + np.log(factor.diagonal()).sum() + 0.5 * count * np.log(2 * np.pi)
        inner = np.outer(solved, solved) - dpotri(factor, lower=1)[0]
        off = (logs - means) / spreads
        gradient = np.empty_like(logs)
        weighted = twice * inner[lower]
        gradient[1] = noise * np.trace(inner)
        gradient[2 + number :] = weights * (products @ weighted)
        weighted *= smooth
        gradient[0] = weighted.sum()
        gradient[2 : 2 + number] = (distances @ weighted) / lengths
        return float(value + 0.5 * off @ off), -0.5 * gradient + off / spreads

    found = minimize(
        negative,
        means if start is None else start.logs,
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


class Posterior:
    """A process given data, and its prediction for every row of `features` that was asked about.

    Values come in the order they were added; a row of the Cholesky factor, and of its inverse, depends on
    those before it only. Every row that is met is a column: its coordinates, its covariance with the data
    behind the factor's inverse, its mean, and the variance that is left.
    """

    def __init__(self, kernel: Kernel, features: Features) -> None:
        self.kernel, self._features = kernel, features
        self._data: list[int] = []  # columns
        self._inverse = np.zeros((16, 16))  # of the factor
        self._targets = np.zeros(16)
        self._whitened = np.zeros(16)  # the inverse times the targets
        self._met: list[int] = []  # the row of the features of each column
        self._column = np.full(64, -1)  # of each row of the features; -1 of those not met
        self._places = Coordinates((), np.zeros((64, 0)), np.zeros(64), np.zeros(64))  # of the columns
        self._known: Coordinates | None = None  # of the data, gathered when they are asked for
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
        self._room(n, len(self._met))
        data = self._places.at(columns)
        factor, failed = dpotrf(self.kernel.covariance(data, data) + self._noise * np.eye(n), lower=1)
        if failed:
            raise Unfit(f"the kernel of {n} values must be positive definite, but it is singular")
        self._inverse[:n, :n] = dtrtri(factor, lower=1)[0]
        self._data, self._known, self._targets[:n] = columns.tolist(), data, targets
        self._whitened[:n] = self._inverse[:n, :n] @ targets
        known = slice(0, len(self._met))
        self._condition(known)

    def _condition(self, columns: slice) -> None:
        """Fills what all data say of columns whose prior was written."""
        n = len(self._data)
        if self._known is None:
            self._known = self._places.at(np.array(self._data))
        across = self.kernel.covariance(self._known, self._places.at(columns))
        cross = self._inverse[:n, :n] @ across
        self._cross[:n, columns] = cross
        self._mean[columns] = self._whitened[:n] @ cross
        self._left[columns] -= np.einsum("ij,ij->j", cross, cross)

    def add(self, row: int, target: float) -> None:
        """One more value, `target` at this row of the features."""
        column = int(self._cover([row])[0])
        n, m = len(self._data), len(self._met)
        self._room(n + 1, m)
        line = self._cross[:n, column].copy()
        pivot = np.sqrt(max(float(self._left[column]) + self.kernel.noise, 0.0) + JITTER)
        self._inverse[n, :n], self._inverse[n, n] = -line @ self._inverse[:n, :n] / pivot, 1 / pivot
        self._targets[n] = target
        self._whitened[n] = (target - line @ self._whitened[:n]) / pivot
        here, met = self._places.at(slice(column, column + 1)), self._places.at(slice(0, m))
        (across,) = self.kernel.covariance(here, met)
        new = (across - line @ self._cross[:n, :m]) / pivot
        self._cross[n, :m] = new
        self._mean[:m] += new * self._whitened[n]
        self._left[:m] -= new**2
        self._data.append(column)
        self._known = None

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
        return [self._met[column] for column in self._data]

    @property
    def _noise(self) -> float:
        return self.kernel.noise + JITTER

    def _among(self, given: Sequence[int]) -> Floats:
        """Covariance of the values at these rows, noise included."""
        return np.asarray(self.covariance(given, given) + self._noise * np.eye(len(given)))

    def covariance(self, rows: Sequence[int], others: Sequence[int], given: Sequence[int] = ()) -> Floats:
        """`float64[n, m]`, of the values without noise, given the data and the values at `given`."""
        if given:
            across, beyond = self.covariance(rows, given), self.covariance(given, others)
            known = across @ np.linalg.solve(self._among(given), beyond)
            return np.asarray(self.covariance(rows, others) - known)
        left, right = self._cover(rows), self._cover(others)
        n = len(self._data)
        prior = self.kernel.covariance(self._places.at(left), self._places.at(right))
        return np.asarray(prior - self._cross[:n, left].T @ self._cross[:n, right])

    def leave_one_out(self) -> tuple[Normal, Floats]:
        """Of each value, noise included, given all others but it; and the values (`float64[n]`).

        Exact, from the inverse (Rasmussen and Williams 2006, equation 5.12).
        """
        n = len(self._data)
        inverse = self._inverse[:n, :n]
        precision = np.einsum("ij,ij->j", inverse, inverse)
        targets = self._targets[:n]
        off = (inverse.T @ self._whitened[:n]) / precision
        return Normal(targets - off, np.sqrt(1 / precision)), targets

    def _cover(self, rows: Sequence[int]) -> NDArray[np.int64]:
        """The columns of these rows, `int64[n]`; those not met before get new ones."""
        wanted = np.asarray(rows, dtype=np.int64)
        if (beyond := int(wanted.max(initial=0)) + 1) > len(self._column):
            self._column = np.concatenate([self._column, np.full(beyond, -1)])
        unmet = self._column[wanted] < 0
        if unmet.any():
            new = list(dict.fromkeys(wanted[unmet].tolist()))
            n, m = len(self._data), len(self._met)
            self._column[new] = np.arange(m, m + len(new))
            self._met += new
            self._room(n, m + len(new))
            columns = slice(m, m + len(new))
            self._place(new, columns)
            self._left[columns] = self._places.prior[columns]
            self._mean[columns] = 0.0
            if n:
                self._condition(columns)
        return self._column[wanted]

    def _place(self, rows: list[int], columns: slice) -> None:
        """Writes the coordinates of new columns; those of all where blocks have become wider."""
        new = self.kernel.coordinates(self._features.blocks(rows))
        if new.widths != self._places.widths:
            self._known, columns = None, slice(0, len(self._met))
            new = self.kernel.coordinates(self._features.blocks(self._met))
            self._places = self._places._replace(
                widths=new.widths, values=np.zeros((len(self._mean), sum(new.widths)))
            )
        for part, values in zip(self._places[1:], new[1:], strict=True):
            part[columns] = values

    def _room(self, n: int, m: int) -> None:
        height, width = self._cross.shape
        if n <= height and m <= width:
            return
        tall, wide = max(height, 2 * n if n > height else 0), max(width, 2 * m if m > width else 0)
        self._inverse = _grown(self._inverse, (tall, tall))
        self._targets, self._whitened = _grown(self._targets, (tall,)), _grown(self._whitened, (tall,))
        self._cross = _grown(self._cross, (tall, wide))
        self._mean, self._left = _grown(self._mean, (wide,)), _grown(self._left, (wide,))
        widths, *parts = self._places
        self._places = Coordinates(widths, *(_grown(part, (wide, *part.shape[1:])) for part in parts))


def _grown(array: Floats, shape: tuple[int, ...]) -> Floats:
    larger = np.zeros(shape)
    larger[tuple(slice(size) for size in array.shape)] = array
    return larger
