"""Told trials as the population of an evolutionary searcher."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nas.protocols import Context
from nas.trial import Trial


@dataclass(frozen=True, slots=True)
class Member:
    """A told trial.

    Attributes:
        losses: `float64[m]`, minimised, NaN where unknown.
        violation: by how much it is beyond the limits, 0 if feasible.
        rank, crowding: within the population that survived with it, where survival is by these.
    """

    trial: Trial
    losses: NDArray[np.float64]
    violation: float
    rank: int = 0
    crowding: float = 0.0

    @classmethod
    def of(cls, context: Context, trial: Trial) -> Member:
        return cls(trial, context.losses(trial), context.violation(trial.values))


def losses_of(members: Sequence[Member]) -> NDArray[np.float64]:
    """`float64[n, m]`."""
    return np.array([member.losses for member in members])
