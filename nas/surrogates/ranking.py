"""Learning to rank: which of two is better, as a linear score (RankNet, Burges et al. 2005)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nas.surrogates.model import Floats, Normal, Unfit
from nas.surrogates.quality import out_of_fold
from nas.surrogates.rows import checked

PAIRS = 20
"""Pairs for each row, at most."""

FOLDS = 5


@dataclass(frozen=True)
class PairwiseRanking:
    """P(i has the greater target than j) = sigmoid(w'(x_i - x_j)).

    It learns the order alone, so that outliers do not matter. The score w'x is mapped to targets by a line;
    the spread is that of the residuals of cross-validation, the same everywhere.

    Attributes:
        penalty: of w'w, for each pair.

    Raises:
        ValueError: `penalty > 0` does not hold.
    """

    penalty: float = 1e-3

    def __post_init__(self) -> None:
        if not 0 < self.penalty < np.inf:
            raise ValueError(f"`0 < penalty < inf` must hold, but got {self.penalty=}")

    def fit(self, x: Floats, y: Floats, rng: np.random.Generator) -> Line:
        x, y = checked(x, y)
        try:
            held_out, _ = out_of_fold(_Uncalibrated(self.penalty), x, y, rng, FOLDS)
            std = float(np.sqrt(((held_out.mean - y) ** 2).mean()))
        except Unfit:  # so few rows that a part of them has nothing to tell
            std = float(y.std())
        line = _line(x, y, self.penalty, rng)
        return Line(line.weights, line.intercept, std)


@dataclass(frozen=True)
class Line:
    """weights'x + intercept, with one standard deviation for all."""

    weights: Floats
    intercept: float
    std: float

    def predict(self, x: Floats) -> Normal:
        return Normal(x @ self.weights + self.intercept, np.full(len(x), self.std))


@dataclass(frozen=True)
class _Uncalibrated:
    penalty: float

    def fit(self, x: Floats, y: Floats, rng: np.random.Generator) -> Line:
        x, y = checked(x, y)
        return _line(x, y, self.penalty, rng)


def _line(x: Floats, y: Floats, penalty: float, rng: np.random.Generator) -> Line:
    centre = x.mean(axis=0)
    weights = ranking(differences(x - centre, y, rng), penalty)
    score = (x - centre) @ weights
    spread = float(score @ score)
    slope = max(float(score @ (y - y.mean())) / spread, 0.0) if spread > 0 else 0.0
    return Line(slope * weights, float(y.mean() - slope * centre @ weights), 0.0)


def differences(x: Floats, y: Floats, rng: np.random.Generator) -> Floats:
    """x_i - x_j of the pairs with y_i > y_j, `float64[p, d]`: all, or `PAIRS` a row at random."""
    greater, less = np.nonzero(y[:, None] > y[None, :])
    most = PAIRS * len(y)
    if len(greater) > most:
        kept = rng.choice(len(greater), most, replace=False)
        greater, less = greater[kept], less[kept]
    return np.asarray(x[greater] - x[less])


def ranking(apart: Floats, penalty: float) -> Floats:
    """w (`float64[d]`) that minimises the mean of log(1 + exp(-w'd)) over differences d, plus penalty w'w."""

    from scipy.optimize import minimize

    def loss(w: Floats) -> tuple[float, Floats]:
        margin = apart @ w
        value = float(np.logaddexp(0.0, -margin).mean() + penalty * (w @ w))
        return value, 0.5 * (np.tanh(0.5 * margin) - 1) @ apart / len(apart) + 2 * penalty * w

    found = minimize(loss, np.zeros(apart.shape[1]), jac=True, method="L-BFGS-B")
    return np.asarray(found.x, dtype=np.float64)
