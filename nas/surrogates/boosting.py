"""Boosted trees (Friedman 2001, "Greedy Function Approximation"), bagged for a spread."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from nas.surrogates.ensemble import Ensemble
from nas.surrogates.model import Floats
from nas.surrogates.rows import checked


@dataclass(frozen=True)
class Boosted:
    """A fitted model of scikit-learn, which refuses to predict nothing, as a function of rows."""

    model: Any

    def __call__(self, x: Floats) -> Floats:
        return np.asarray(self.model.predict(x)) if len(x) else np.empty(0)


@dataclass(frozen=True)
class BoostedTrees:
    """A few boosted sums of trees, each of bootstrapped rows.

    Attributes:
        members: boosted sums.
        trees: of each.
        depth: of a tree: how many columns can act together.
        rate: how much of each tree is added.

    Raises:
        ValueError: a number is out of range.
    """

    members: int = 5
    trees: int = 100
    depth: int = 3
    rate: float = 0.1

    def __post_init__(self) -> None:
        if min(self.members, self.trees, self.depth) < 1 or not 0 < self.rate <= 1:
            raise ValueError(
                "`1 <= members, trees, depth` and `0 < rate <= 1` must hold, but got "
                f"({self.members=}, {self.trees=}, {self.depth=}, {self.rate=})"
            )

    def fit(self, x: Floats, y: Floats, rng: np.random.Generator) -> Ensemble:
        from sklearn.ensemble import GradientBoostingRegressor

        x, y = checked(x, y)
        members = []
        for _ in range(self.members):
            rows = rng.integers(len(y), size=len(y))
            boosted = GradientBoostingRegressor(
                n_estimators=self.trees,
                max_depth=self.depth,
                learning_rate=self.rate,
                random_state=int(rng.integers(2**31)),
            )
            members.append(Boosted(boosted.fit(x[rows], y[rows])))
        return Ensemble(members)
