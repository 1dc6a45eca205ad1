"""What a surrogate model is: numbers in, a normal distribution for each row out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


class Unfit(ValueError):
    """There is nothing to learn: too few rows, equal targets, a singular kernel. The message says which."""


@dataclass(frozen=True, slots=True)
class Normal:
    """Independent predictions: `mean` and `std` are `float64[n]`, std >= 0."""

    mean: Floats
    std: Floats


class Fitted(Protocol):
    """A model that was fitted to data."""

    def predict(self, x: Floats) -> Normal:
        """One prediction a row of `x` (`float64[n, d]`)."""
        ...


class Model(Protocol):
    """Settings of a model; instances hold no data."""

    def fit(self, x: Floats, y: Floats, rng: np.random.Generator) -> Fitted:
        """Learns `y` (`float64[n]`, standardised) from `x` (`float64[n, d]`), a pure function of all three.

        Raises:
            Unfit: there is nothing to learn.
        """
        ...
