"""What a model-based searcher has to go by: all told trials, and those whose outcome is open."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from nas import pareto
from nas.protocols import Context
from nas.searchers.members import Member, losses_of
from nas.searchers.selection import failed
from nas.trial import Trial


@dataclass(slots=True)
class Evidence:
    """
    Attributes:
        members: all told trials in the order of their ids, failed ones too.
        succeeded: those of them with a finite value of every objective.
        pending: trial id -> trial whose outcome is open, in the order they were proposed.
        losses: of those that succeeded, `float64[n, m]`.
        front: as `front_of` them.
    """

    context: Context
    members: list[Member] = field(default_factory=list)
    succeeded: list[Member] = field(default_factory=list)
    pending: dict[int, Trial] = field(default_factory=dict)
    losses: NDArray[np.float64] = field(init=False, compare=False)
    front: list[Member] = field(init=False, compare=False)

    def __post_init__(self) -> None:
        none = np.empty((0, len(self.context.objectives)))
        self.losses = losses_of(self.succeeded) if self.succeeded else none
        self.front = front_of(self.succeeded)

    def proposed(self, trial: Trial) -> None:
        self.pending[trial.id] = trial

    def told(self, trial: Trial) -> Member:
        del self.pending[trial.id]
        member = Member.of(self.context, trial)
        self.members.append(member)
        if not failed(member):
            self.succeeded.append(member)
            self.losses = np.vstack([self.losses, member.losses])
            self.front = front_of([*self.front, member])
        return member

    @property
    def modelled(self) -> NDArray[np.bool_]:
        """`bool[m]`: the objectives that training alone tells; exact ones are never modelled."""
        return np.array([objective.exact is None for objective in self.context.objectives])


def front_of(members: list[Member]) -> list[Member]:
    """The non-dominated ones of those within the limits; if none is, those that violate them least."""
    least = min((member.violation for member in members), default=0.0)
    allowed = [member for member in members if member.violation <= least]
    if not allowed:
        return []
    return [allowed[place] for place in pareto.front(losses_of(allowed)).tolist()]
