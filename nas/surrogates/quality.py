"""How good a model is on data it did not see: its order, and whether its intervals hold what they promise."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nas.surrogates.model import Floats, Model, Normal

NINETY = 1.6448536269514722
"""Half the width of the 90 % interval of a normal distribution, in standard deviations."""


@dataclass(frozen=True, slots=True)
class Quality:
    """Of predictions made without the row they are for.

    Attributes:
        tau: Kendall's rank correlation with the targets (tau-b), 0 where one side is constant.
        covered: share of the targets within the 90 % interval.
        error: root mean squared error, in the targets' units.
        rows: how many predictions.
    """

    tau: float
    covered: float
    error: float
    rows: int


def quality(model: Model, x: Floats, y: Floats, rng: np.random.Generator, folds: int = 10) -> Quality:
    """Cross-validated quality; as many folds as rows, or more, leave one out.

    Raises:
        Unfit: the model cannot learn from a part of the rows.
        ValueError: `folds >= 2` does not hold.
    """
    predicted, _ = out_of_fold(model, x, y, rng, folds)
    return judged(predicted, y)


def judged(predicted: Normal, y: Floats) -> Quality:
    """The quality of predictions of `y` (`float64[n]`)."""
    away = predicted.mean - y
    covered = np.abs(away) <= NINETY * predicted.std
    return Quality(
        rank_correlation(predicted.mean, y), float(covered.mean()), float(np.sqrt((away**2).mean())), len(y)
    )


def out_of_fold(
    model: Model, x: Floats, y: Floats, rng: np.random.Generator, folds: int
) -> tuple[Normal, NDArray[np.int64]]:
    """Each row predicted by the model fitted to the other folds, and the fold of each row (`int[n]`).

    Folds are drawn at random and differ in size by one at most; there are no more of them than rows.
    """
    if folds < 2:
        raise ValueError(f"`folds >= 2` must hold, but got {folds=}")
    n = len(y)
    fold = rng.permutation(np.arange(n) % min(folds, n))
    mean, std = np.empty(n), np.empty(n)
    for k in range(min(folds, n)):
        held = fold == k
        predicted = model.fit(x[~held], y[~held], rng).predict(x[held])
        mean[held], std[held] = predicted.mean, predicted.std
    return Normal(mean, std), fold


def rank_correlation(a: Floats, b: Floats) -> float:
    """Kendall's tau-b; 0 where one of them is constant or has less than two numbers."""
    from scipy.stats import kendalltau

    if len(a) < 2 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return 0.0
    return float(kendalltau(a, b).statistic)
