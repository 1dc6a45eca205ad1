"""A Gaussian process given data: it grows row by row with the data, and column by column with what is asked.

Processes given values at the same rows share `Places`: coordinates, and the inner products last asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.linalg.lapack import dpotrf, dtrtri

from nas.surrogates.features import Features
from nas.surrogates.gp import JITTER, Kernel, Scaling, products, squares
from nas.surrogates.model import Floats, Normal, Unfit


class Products(NamedTuple):
    """What was `found` of some columns with others, `float64[blocks, n, m]`."""

    columns: list[int]
    others: slice
    found: Floats


class Places:
    """Rows of features as kernels of one scaling see them. Every row that is met is a column.

    Attributes:
        met: the row of each column.
        scaling: that of the kernels.
    """

    def __init__(self, features: Features, scaling: Scaling) -> None:
        self.met: list[int] = []
        self._features, self.scaling = features, scaling
        self._column = np.full(64, -1)  # of each row; -1 of those not met
        self._blocks = [np.zeros((64, 0)) for _ in scaling.distances]  # scaled
        self._squares = np.zeros((len(scaling.distances), 64))
        self._last = Products([], slice(0, 0), np.zeros((len(scaling.distances), 0, 0)))

    def __len__(self) -> int:
        return len(self.met)

    def columns(self, rows: Sequence[int]) -> NDArray[np.int64]:
        """The columns of these rows, `int64[n]`; those not met before get new ones."""
        wanted = np.asarray(rows, dtype=np.int64)
        if (beyond := int(wanted.max(initial=0)) + 1) > len(self._column):
            self._column = np.concatenate([self._column, np.full(beyond, -1)])
        unmet = self._column[wanted] < 0
        if unmet.any():
            self._append(list(dict.fromkeys(wanted[unmet].tolist())))
        return self._column[wanted]

    def _append(self, rows: list[int]) -> None:
        start, end = len(self.met), len(self.met) + len(rows)
        self._column[rows] = np.arange(start, end)
        self.met += rows
        blocks = self._features.blocks(rows)
        if any(new.shape[1] > had.shape[1] for new, had in zip(blocks, self._blocks, strict=True)):
            start, blocks = 0, self._features.blocks(self.met)
        scaled = self.scaling.scaled(blocks)
        if end > self._squares.shape[1]:
            self._squares = grown(self._squares, (len(self._squares), 2 * end))
        for place, values in enumerate(scaled):
            room = self._squares.shape[1], values.shape[1]
            if self._blocks[place].shape != room:
                self._blocks[place] = grown(self._blocks[place], room)
            self._blocks[place][start:end] = values
        self._squares[:, start:end] = squares(scaled)

    def squares(self, columns: Sequence[int] | slice) -> Floats:
        """`float64[blocks, n]`."""
        return self._squares[:, columns]

    def scaled(self, columns: Sequence[int] | slice) -> list[Floats]:
        """`float64[n, d_b]` of each block."""
        return [block[columns] for block in self._blocks]

    def products(self, columns: list[int], others: slice) -> Floats:
        """`float64[blocks, n, m]`; the last ones are remembered: processes given the same rows ask alike."""
        if self._last.others != others or self._last.columns != columns:
            found = products(self.scaled(columns), self.scaled(others))
            self._last = Products(list(columns), others, found)
        return self._last.found


class Posterior:
    """A process given data, and its prediction for every row that was asked about.

    Values come in the order they were added; a row of the Cholesky factor, and of its inverse, depends on
    those before it only. Of the columns of `places`, once it was asked, it holds the covariance with the data
    behind the factor's inverse, the mean, and the variance that is left.
    """

    def __init__(self, kernel: Kernel, places: Places) -> None:
        if places.scaling is not kernel.scaling:
            raise ValueError("the kernel must be of the scaling of its places, but it is of another")
        self.kernel, self._places = kernel, places
        self._data: list[int] = []  # columns
        self._inverse = np.zeros((16, 16))  # of the factor
        self._targets = np.zeros(16)
        self._whitened = np.zeros(16)  # the inverse times the targets
        self._filled = 0  # columns, from the first on, of which the following is known
        self._cross = np.zeros((16, 64))
        self._mean, self._left = np.zeros(64), np.zeros(64)

    def __len__(self) -> int:
        return len(self._data)

    def begin(self, rows: Sequence[int], targets: Floats) -> None:
        """The first values, `targets` (`float64[n]`) at these rows, all at once.

        Raises:
            Unfit: their covariance is not positive definite.
        """
        columns, n = self._places.columns(rows).tolist(), len(rows)
        self._room(n, len(self._places))
        products = self._places.products(columns, slice(0, len(self._places)))  # `_fill` asks for the same
        squares = self._places.squares(columns)
        covariance = self.kernel.covariance(products[:, :, columns], squares, squares)
        factor, failed = dpotrf(covariance + self._noise * np.eye(n), lower=1)
        if failed:
            raise Unfit(f"the kernel of {n} values must be positive definite, but it is singular")
        self._inverse[:n, :n] = dtrtri(factor, lower=1)[0]
        self._data, self._targets[:n] = columns, targets
        self._whitened[:n] = self._inverse[:n, :n] @ targets
        self._filled = 0
        self._fill()

    def _fill(self) -> None:
        """What the data say of columns that are new."""
        n, columns = len(self._data), slice(self._filled, len(self._places))
        if columns.start == columns.stop:
            return
        self._room(n, columns.stop)
        self._filled = columns.stop
        squares = self._places.squares(columns)
        self._mean[columns], self._left[columns] = 0.0, self.kernel.variances(squares)
        if n:
            products = self._places.products(self._data, columns)
            across = self.kernel.covariance(products, self._places.squares(self._data), squares)
            cross = self._inverse[:n, :n] @ across
            self._cross[:n, columns] = cross
            self._mean[columns] = self._whitened[:n] @ cross
            self._left[columns] -= np.einsum("ij,ij->j", cross, cross)

    def add(self, row: int, target: float) -> None:
        """One more value, `target` at this row of the features."""
        (column,) = self._cover([row]).tolist()
        n, m = len(self._data), self._filled
        self._room(n + 1, m)
        line = self._cross[:n, column].copy()
        pivot = np.sqrt(max(float(self._left[column]) + self.kernel.noise, 0.0) + JITTER)
        self._inverse[n, :n], self._inverse[n, n] = -line @ self._inverse[:n, :n] / pivot, 1 / pivot
        self._targets[n] = target
        self._whitened[n] = (target - line @ self._whitened[:n]) / pivot
        met, squares = slice(0, m), self._places.squares
        products = self._places.products([column], met)
        (across,) = self.kernel.covariance(products, squares([column]), squares(met))
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
            left = left - np.einsum("ij,ji->i", across, np.linalg.solve(self._noisy(given), across.T))
        return Normal(mean, np.sqrt(np.maximum(left, 1e-12)))

    @property
    def rows(self) -> list[int]:
        """Those of the data, in order."""
        return [self._places.met[column] for column in self._data]

    @property
    def _noise(self) -> float:
        return self.kernel.noise + JITTER

    def covariance(self, rows: Sequence[int], others: Sequence[int], given: Sequence[int] = ()) -> Floats:
        """`float64[n, m]`, of the values without noise, given the data and the values at `given`."""
        if given:
            across, beyond = self.covariance(rows, given), self.covariance(given, others)
            known = across @ np.linalg.solve(self._noisy(given), beyond)
            return np.asarray(self.covariance(rows, others) - known)
        left, right = self._cover(rows).tolist(), self._cover(others).tolist()
        a, b = self._places.scaled(left), self._places.scaled(right)
        prior = self.kernel.covariance(products(a, b), squares(a), squares(b))
        n = len(self._data)
        return np.asarray(prior - self._cross[:n, left].T @ self._cross[:n, right])

    def _noisy(self, given: Sequence[int]) -> Floats:
        """Covariance of the values at these rows, noise included."""
        return np.asarray(self.covariance(given, given) + self._noise * np.eye(len(given)))

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
        """The columns of these rows."""
        columns = self._places.columns(rows)
        self._fill()
        return columns

    def _room(self, n: int, m: int) -> None:
        height, width = self._cross.shape
        if n <= height and m <= width:
            return
        tall, wide = max(height, 2 * n if n > height else 0), max(width, 2 * m if m > width else 0)
        self._inverse = grown(self._inverse, (tall, tall))
        self._targets, self._whitened = grown(self._targets, (tall,)), grown(self._whitened, (tall,))
        self._cross = grown(self._cross, (tall, wide))
        self._mean, self._left = grown(self._mean, (wide,)), grown(self._left, (wide,))


def grown(array: Floats, shape: tuple[int, ...]) -> Floats:
    """A larger array that begins with this one; zeros beyond."""
    larger = np.zeros(shape)
    larger[tuple(slice(size) for size in array.shape)] = array
    return larger
