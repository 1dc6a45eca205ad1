"""The hypervolume over the trials of a study: exact, against a reference that stays."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nas import pareto

Floats = NDArray[np.float64]


class VolumeLog:
    """Folds in the trials in id order.

    Args:
        reference: `float64[m]`, of losses.

    Attributes:
        values: the hypervolume after each trial.
        grown: id of the last trial that enlarged it; -1 before there is one.
    """

    def __init__(self, reference: Floats) -> None:
        self._reference = reference
        self._front = np.empty((0, len(reference)))
        self.values: list[float] = []
        self.grown = -1

    def add(self, losses: Floats) -> None:
        """The next trial's losses (`float64[m]`); NaN for one that failed or is beyond a limit."""
        before = self.values[-1] if self.values else 0.0
        inside = bool((losses < self._reference).all())  # False for NaN
        if inside and not (self._front <= losses).all(axis=1).any():
            worse = (losses <= self._front).all(axis=1)
            self._front = np.vstack([self._front[~worse], losses])
            volume = pareto.hypervolume(self._front, self._reference)
            if volume > before:  # not by rounding only
                self.grown = len(self.values)
                before = volume
        self.values.append(before)

    def stalled(self, seen: int, patience: int) -> bool:
        """Whether the last `patience` of the first `seen` trials did not enlarge it."""
        if seen > len(self.values):
            return False
        earlier = seen - patience
        return earlier > 0 and self.values[seen - 1] == self.values[earlier - 1]
