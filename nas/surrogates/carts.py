"""MSuNAS' trees: each grown on all rows and a random subset of the columns (Lu et al. 2020, NSGANetV2)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nas.surrogates.ensemble import Ensemble
from nas.surrogates.model import Floats
from nas.surrogates.rows import checked
from nas.surrogates.trees import Leaves


@dataclass(frozen=True)
class CARTs:
    """Full-grown trees whose subsets of the d columns have a size that is uniform on 1 … d.

    Attributes:
        trees: how many; MSuNAS grows 1,000.

    Raises:
        ValueError: `1 <= trees` does not hold.
    """

    trees: int = 100

    def __post_init__(self) -> None:
        if self.trees < 1:
            raise ValueError(f"`1 <= trees` must hold, but got {self.trees=}")

    def fit(self, x: Floats, y: Floats, rng: np.random.Generator) -> Ensemble:
        from sklearn.tree import DecisionTreeRegressor

        x, y = checked(x, y)
        members = []
        for _ in range(self.trees):
            columns = rng.permutation(x.shape[1])[: rng.integers(1, x.shape[1] + 1)]
            tree = DecisionTreeRegressor(random_state=int(rng.integers(2**31)))
            tree.fit(x[:, columns], y)
            members.append(Leaves(tree.tree_, columns))
        return Ensemble(members)
