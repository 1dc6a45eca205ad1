"""Random forest (Breiman 2001, "Random Forests"), with the spread of its trees (SMAC, Hutter et al. 2011)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nas.surrogates.ensemble import Ensemble
from nas.surrogates.model import Floats
from nas.surrogates.rows import checked
from nas.surrogates.trees import Leaves


@dataclass(frozen=True)
class RandomForest:
    """Trees on bootstrapped rows, each split of which chooses among a share of the columns.

    Attributes:
        trees: how many.
        features: share of the columns that a split looks at; SMAC's 5/6.
        leaf: fewest rows of a leaf.

    Raises:
        ValueError: a number is out of range.
    """

    trees: int = 100
    features: float = 5 / 6
    leaf: int = 1

    def __post_init__(self) -> None:
        if min(self.trees, self.leaf) < 1 or not 0 < self.features <= 1:
            raise ValueError(
                "`1 <= trees`, `1 <= leaf` and `0 < features <= 1` must hold, but got "
                f"({self.trees=}, {self.leaf=}, {self.features=})"
            )

    def fit(self, x: Floats, y: Floats, rng: np.random.Generator) -> Ensemble:
        from sklearn.ensemble import RandomForestRegressor

        x, y = checked(x, y)
        forest = RandomForestRegressor(
            self.trees,
            max_features=self.features,
            min_samples_leaf=self.leaf,
            random_state=int(rng.integers(2**31)),
        )
        forest.fit(x, y)
        return Ensemble([Leaves(tree.tree_) for tree in forest.estimators_])
