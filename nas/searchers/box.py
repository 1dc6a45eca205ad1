"""The box of losses seen so far: what "scaled to [0, 1]" means in a searcher."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Box:
    """Least and greatest losses of all that succeeded, `float64[m]` each; infinite while there is none."""

    low: Floats
    high: Floats

    @classmethod
    def empty(cls, objectives: int) -> Box:
        return cls(np.full(objectives, np.inf), np.full(objectives, -np.inf))

    @classmethod
    def of(cls, losses: Floats) -> Box:
        """That of the finite rows of `losses`, `float64[n, m]`."""
        rows = losses[np.isfinite(losses).all(axis=1)]
        empty = cls.empty(losses.shape[1])
        return (
            cls(rows.min(axis=0, initial=np.inf), rows.max(axis=0, initial=-np.inf)) if len(rows) else empty
        )

    def including(self, losses: Floats) -> Box:
        """The box that also holds one more row, `float64[m]`; a row that is not finite changes nothing."""
        if not np.isfinite(losses).all():
            return self
        return Box(np.minimum(self.low, losses), np.maximum(self.high, losses))

    @property
    def span(self) -> Floats:
        """Range of each objective, `float64[m]`; 1 where there is none."""
        return np.where(self.high > self.low, self.high - self.low, 1.0)

    def scaled(self, losses: ArrayLike) -> Floats:
        """`losses` (`float64[…, m]`) in units of the range, 0 at the least seen."""
        low = np.where(np.isfinite(self.low), self.low, 0.0)
        return np.asarray((np.asarray(losses, dtype=np.float64) - low) / self.span)
