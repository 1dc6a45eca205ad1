"""Several models as one: the mean of their predictions, and how far they are apart."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from nas.surrogates.model import Floats, Normal


@dataclass(frozen=True)
class Ensemble:
    """Members, each of them a function `float64[n, d]` -> `float64[n]`."""

    members: Sequence[Callable[[Floats], Floats]]

    def predict(self, x: Floats) -> Normal:
        return spread(np.array([member(x) for member in self.members]))


def spread(predictions: Floats) -> Normal:
    """Mean and standard deviation (of the population) over the members: `float64[e, n]` -> n."""
    return Normal(predictions.mean(axis=0), predictions.std(axis=0))
