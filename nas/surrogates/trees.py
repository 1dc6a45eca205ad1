"""A fitted tree of scikit-learn as a function of rows, without the checks of its `predict`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nas.surrogates.model import Floats


@dataclass(frozen=True)
class Leaves:
    """
    Attributes:
        tree: scikit-learn's `tree_`.
        columns: `int[k]`, those that the tree was grown on; None for all.
    """

    tree: Any
    columns: NDArray[np.int64] | None = None

    def __call__(self, x: Floats) -> Floats:
        """`float64[n, d]` -> `float64[n]`."""
        seen = x if self.columns is None else x[:, self.columns]
        rows = np.ascontiguousarray(seen, dtype=np.float32)
        return np.asarray(self.tree.predict(rows), dtype=np.float64).reshape(len(x))
