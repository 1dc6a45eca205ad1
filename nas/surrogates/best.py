"""MSuNAS' adaptive switching: of several models the one that cross-validation likes best (Lu et al. 2020)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nas.surrogates.carts import CARTs
from nas.surrogates.model import Fitted, Floats, Model, Unfit
from nas.surrogates.process import GaussianProcess
from nas.surrogates.quality import out_of_fold, rank_correlation
from nas.surrogates.rbf import RBF
from nas.surrogates.rows import checked

ROWS = 4
"""Fewest rows of a fold: below that Kendall's tau says nothing."""


@dataclass(frozen=True)
class BestByCrossValidation:
    """argmax(mean tau - std tau) over the folds, refitted to all rows; of equals the first.

    Attributes:
        models: the pool. A model that is `Unfit` on a fold is out.
        folds: at most so many; fewer where a fold would have less than four rows.

    Raises:
        ValueError: the pool is empty, or `folds >= 2` does not hold.
    """

    models: tuple[Model, ...] = (RBF(), CARTs(), GaussianProcess())
    folds: int = 10

    def __post_init__(self) -> None:
        if not self.models or self.folds < 2:
            raise ValueError(
                f"one model or more and `folds >= 2` must hold, but got ({self.models=}, {self.folds=})"
            )

    def fit(self, x: Floats, y: Floats, rng: np.random.Generator) -> Fitted:
        x, y = checked(x, y)
        if len(self.models) == 1:
            return self.models[0].fit(x, y, rng)
        folds = max(min(self.folds, len(y) // ROWS), 2)
        scores = [self._score(model, x, y, rng, folds) for model in self.models]
        for place in np.argsort(-np.array(scores), kind="stable").tolist():
            try:
                fitted: Fitted = self.models[place].fit(x, y, rng)
                return fitted
            except Unfit as error:
                reason = error
        raise Unfit(f"a model of the pool must fit, but none does: {reason}")

    def _score(self, model: Model, x: Floats, y: Floats, rng: np.random.Generator, folds: int) -> float:
        try:
            predicted, fold = out_of_fold(model, x, y, rng, folds)
        except Unfit:
            return -np.inf
        taus = [rank_correlation(predicted.mean[fold == k], y[fold == k]) for k in range(folds)]
        return float(np.mean(taus) - np.std(taus))
