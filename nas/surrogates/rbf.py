"""Radial basis functions with a polynomial tail (Regis & Shoemaker 2007; MSuNAS' default), with a spread.

An interpolant of the cubic kernel with a linear tail is the kriging predictor of a field whose generalised
covariance is r^3 (Wahba 1990, "Spline Models for Observational Data", section 2.4), which gives its variance;
ridge and scale come from the leave-one-out residuals in closed form (Rippa 1999).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from nas.surrogates.model import Floats, Normal
from nas.surrogates.rows import checked

RIDGES = (1e-6, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)
"""Ridges tried, in units of the kernel matrix' largest eigenvalue per row."""


@dataclass(frozen=True)
class RBF:
    """The kernel and the ridge that have the least leave-one-out error, of those given.

    Attributes:
        kernels: "cubic", r^3 with a linear tail, and "linear", -r with a constant, which is also taken
            where the rows are too few for a linear tail.
        ridges: how much is smoothed; (0.0,) interpolates.

    Raises:
        ValueError: there is no kernel or ridge to choose from, or a wrong one.
    """

    kernels: tuple[Literal["cubic", "linear"], ...] = ("cubic", "linear")
    ridges: tuple[float, ...] = RIDGES

    def __post_init__(self) -> None:
        if not self.kernels or not {"cubic", "linear"}.issuperset(self.kernels):
            raise ValueError(f"kernels must be 'cubic' or 'linear', one or both, but got {self.kernels=}")
        if not self.ridges or not all(0 <= ridge < np.inf for ridge in self.ridges):
            raise ValueError(f"`0 <= ridge < inf` must hold for one ridge or more, but got {self.ridges=}")

    def fit(self, x: Floats, y: Floats, rng: np.random.Generator) -> Surface:
        x, y = checked(x, y)
        found = [_surface(x, y, kernel == "cubic", self.ridges) for kernel in self.kernels]
        fitted = [surface for surface in found if surface is not None]
        fitted = fitted or [s for s in [_surface(x, y, False, self.ridges)] if s is not None]
        return min(fitted, key=lambda surface: surface.error)


@dataclass(frozen=True)
class Surface:
    """s(u) = sum_i weights_i k(|u - x_i|) + tail(u).

    Attributes:
        x: `float64[n, d]`, the rows learnt from.
        centre, axes, unit: of the tail's coordinates and of distances: `float64[d]`, `float64[d, q]`, > 0.
        linear: whether the kernel is r^3 and the tail linear; else -r and constant.
        weights, tail: `float64[n]`, `float64[1 + q]`.
        inverse, cross, shape: blocks of the inverse of [[K + ridge, P], [P', 0]], for the variance.
        ridge: added to the diagonal of K.
        scale: variance of the field.
        error: leave-one-out root mean squared error.
    """

    x: Floats
    centre: Floats
    axes: Floats
    unit: float
    linear: bool
    weights: Floats
    tail: Floats
    inverse: Floats
    cross: Floats
    shape: Floats
    ridge: float
    scale: float
    error: float

    def predict(self, x: Floats) -> Normal:
        k = _kernel(_distances(x, self.x) / self.unit, self.linear)
        p = _tail((x - self.centre) @ self.axes / self.unit)
        mean = k @ self.weights + p @ self.tail
        # Kriging variance: k(0) + ridge - [k p] A^-1 [k p]', k(0) = 0.
        reduction = ((k @ self.inverse) * k).sum(axis=1) + 2 * ((k @ self.cross) * p).sum(axis=1)
        reduction += ((p @ self.shape) * p).sum(axis=1)
        variance = np.maximum(self.ridge - reduction, 0.0) * self.scale
        return Normal(mean, np.sqrt(variance))


def _kernel(r: Floats, linear: bool) -> Floats:
    """Conditionally positive definite of order 2, r^3, or of order 1, -r."""
    return r**3 if linear else -r


def _distances(a: Floats, b: Floats) -> Floats:
    from scipy.spatial.distance import cdist

    return np.asarray(cdist(a, b))


def _tail(u: Floats) -> Floats:
    return np.column_stack([np.ones(len(u)), u])


def _surface(x: Floats, y: Floats, linear: bool, ridges: tuple[float, ...]) -> Surface | None:
    """The best of the ridges; None if the rows are too few for the tail.

    With Q an orthonormal basis of what the tail P leaves and K + ridge positive on it, Q' K Q = V L V':
    the block of the inverse is B = Q V (L + ridge)^-1 V' Q', the weights are B y, and the error at row i
    without it is (B y)_i / B_ii.
    """
    n = len(y)
    centre = x.mean(axis=0)
    distances = _distances(x, x)
    unit = float(distances.mean()) or 1.0
    axes = _directions((x - centre) / unit) if linear else np.empty((x.shape[1], 0))
    p = _tail((x - centre) @ axes / unit)
    if n < p.shape[1] + 2:
        return None
    kernel = _kernel(distances / unit, linear)
    q = np.linalg.qr(p, mode="complete")[0][:, p.shape[1] :]
    values, vectors = np.linalg.eigh(q.T @ kernel @ q)
    basis = q @ vectors
    top = float(values.max())
    values = np.maximum(values, 0.0)
    floor = 1e-10 * top if top > 0 else 1.0  # all rows alike: the mean, and their spread
    projected = basis.T @ y
    best: tuple[float, float, NDArray[np.float64]] | None = None
    for ridge in ridges:
        added = max(ridge * top, floor)
        filtered = basis / (values + added)
        diagonal = (filtered * basis).sum(axis=1)
        with np.errstate(divide="ignore", invalid="ignore"):
            left_out = np.where(diagonal > 1e-12 * diagonal.max(), filtered @ projected / diagonal, 0.0)
        error = float(np.sqrt((left_out**2).mean()))
        if best is None or error < best[0]:
            best = error, added, left_out**2 * diagonal
    error, added, scaled = best if best is not None else (0.0, floor, np.ones(n))
    inverse = (basis / (values + added)) @ basis.T
    weights = inverse @ y
    solve = np.linalg.pinv(p)
    ridged = kernel + added * np.eye(n)
    tail = solve @ (y - ridged @ weights)
    cross = (solve @ (np.eye(n) - ridged @ inverse)).T
    shape = -solve @ ridged @ cross
    scale = float(scaled.mean())
    return Surface(x, centre, axes, unit, linear, weights, tail, inverse, cross, shape, added, scale, error)


def _directions(u: Floats) -> Floats:
    """Orthonormal directions in which centred rows vary, `float64[d, q]`; q < d for one-hot columns."""
    _, sizes, rows = np.linalg.svd(u, full_matrices=False)
    return np.asarray(rows[sizes > 1e-8 * max(sizes.max(initial=0.0), 1e-300)].T)
