"""A Gaussian process as a model of rows: one smooth kernel over all columns, plus a linear part."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.linalg import LinAlgError, solve_triangular

from nas.surrogates.gp import JITTER, Kernel, Scaling, fit_kernel, products, squares
from nas.surrogates.model import Floats, Normal, Unfit
from nas.surrogates.rows import checked
from nas.surrogates.threads import one_thread


@dataclass(frozen=True)
class GaussianProcess:
    """k(x, x') = v exp(-|x - x'|^2 / l) + w <x, x'> + noise, of the largest posterior density (see `gp`).

    `BayesianOptimization` has a process that sees more of an architecture, in blocks; this one takes rows,
    as all models do.

    Attributes:
        fitted: rows that hyperparameters are chosen by, at most, drawn at random; all rows are data.

    Raises:
        ValueError: `2 <= fitted` does not hold.
    """

    fitted: int = 200

    def __post_init__(self) -> None:
        if self.fitted < 2:
            raise ValueError(f"`2 <= fitted` must hold, but got {self.fitted=}")

    def fit(self, x: Floats, y: Floats, rng: np.random.Generator) -> FittedProcess:
        x, y = checked(x, y)
        centre, scale = float(y.mean()), float(y.std())
        z = (y - centre) / scale
        few = np.sort(rng.permutation(len(y))[: self.fitted])
        with one_thread():
            kernel, _ = fit_kernel([x[few]], z[few], Scaling.of([x]))
            return FittedProcess.of(kernel, x, z, centre, scale)


@dataclass(frozen=True)
class FittedProcess:
    """
    Attributes:
        x: data, scaled, `float64[n, d]`.
        factor: lower Cholesky factor of their covariance, `float64[n, n]`.
        whitened: the standardised targets behind its inverse, `float64[n]`.
        centre, scale: of the targets.
    """

    kernel: Kernel
    x: Floats
    factor: Floats
    whitened: Floats
    centre: float
    scale: float

    @classmethod
    def of(cls, kernel: Kernel, x: Floats, z: Floats, centre: float, scale: float) -> FittedProcess:
        (x,) = kernel.scaling.scaled([x])
        covariance = _covariance(kernel, x, x) + (kernel.noise + JITTER) * np.eye(len(x))
        try:
            factor = np.asarray(np.linalg.cholesky(covariance), dtype=np.float64)
        except LinAlgError as error:
            raise Unfit(
                f"the kernel of {len(x)} rows must be positive definite, but it is singular"
            ) from error
        whitened = solve_triangular(factor, z, lower=True, check_finite=False)
        return cls(kernel, x, factor, whitened, centre, scale)

    def predict(self, x: Floats) -> Normal:
        """Of the values without noise."""
        with one_thread():
            (new,) = self.kernel.scaling.scaled([x])
            across = _covariance(self.kernel, self.x, new)
            cross = solve_triangular(self.factor, across, lower=True, check_finite=False)
            left = self.kernel.variances(squares([new])) - np.einsum("ij,ij->j", cross, cross)
            mean, std = self.whitened @ cross, np.sqrt(np.maximum(left, 1e-12))
            return Normal(self.centre + self.scale * mean, self.scale * std)


def _covariance(kernel: Kernel, a: Floats, b: Floats) -> Floats:
    """`float64[n, m]` of scaled rows."""
    return kernel.covariance(products([a], [b]), squares([a]), squares([b]))
