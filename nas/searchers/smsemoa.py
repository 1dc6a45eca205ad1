"""SMS-EMOA (Beume, Naujoks & Emmerich 2007, "SMS-EMOA: Multiobjective selection based on dominated
hypervolume")."""

from __future__ import annotations

from dataclasses import dataclass, replace

import moocore
import numpy as np

from nas.protocols import Context, Exhausted
from nas.searchers import selection
from nas.searchers.box import Box, Floats
from nas.searchers.members import Member
from nas.searchers.nsga2 import NSGA2, State
from nas.trial import Proposal, Trial


@dataclass(frozen=True)
class SMSEMOA:
    """Steady state: of the worst front, the member that adds the least hypervolume goes.

    Children are made as by `NSGA2`; a tournament is won by rank, then by the hypervolume contribution.

    Attributes:
        population: survivors, mu.
        crossover, mutation: as of `NSGA2`.

    Raises:
        ValueError: a number is out of range.
    """

    population: int = 20
    crossover: float = 0.25
    mutation: float = 1.0

    def __post_init__(self) -> None:
        self._variation()

    def _variation(self) -> NSGA2:
        return NSGA2(self.population, crossover=self.crossover, mutation=self.mutation)

    def init(self, context: Context) -> State:
        return State(context)

    def ask(self, state: State, rng: np.random.Generator) -> Proposal | Exhausted:
        return self._variation().ask(state, rng)

    def proposed(self, state: State, trial: Trial) -> State:
        state.proposals += 1
        return state

    def told(self, state: State, trial: Trial, rng: np.random.Generator) -> State:
        state.population = reduced([*state.population, Member.of(state.context, trial)], self.population)
        return state


def reduced(members: list[Member], count: int) -> list[Member]:
    """The `count` members left when the least of the worst front is removed again and again (algorithm 2).

    Ranks are those of `selection.ranked`: feasible by dominance, infeasible by violation, failed ones last.
    The `crowding` of the members left is their hypervolume contribution within their front. Of equals the
    oldest (lowest trial id) goes, so a plateau is crossed.
    """
    ranked = sorted(selection.survivors(members, len(members)), key=lambda m: (m.rank, m.trial.id))
    box = Box.of(np.array([m.losses for m in members]))
    left: list[Member] = []
    for rank in dict.fromkeys(m.rank for m in ranked):
        room = count - len(left)
        if room == 0:
            break
        front = [m for m in ranked if m.rank == rank]
        added = contributions(np.array([m.losses for m in front]), box)
        while len(front) > room:
            del front[int(np.argmin(added))]
            added = contributions(np.array([m.losses for m in front]), box)
        left += [replace(m, crowding=float(c)) for m, c in zip(front, added, strict=True)]
    return left


def contributions(losses: Floats, box: Box) -> Floats:
    """Hypervolume that each row of one front adds to it (`float64[n]`), losses scaled by the box.

    Beume et al., section 3.2: the reference is 1 beyond the front's worst values; with two objectives the
    ends of the front count as infinite, so they stay. Rows not finite, and equal rows, add 0.
    """
    result = np.zeros(len(losses))
    finite = np.flatnonzero(np.isfinite(losses).all(axis=1))
    if not len(finite):
        return result
    values = box.scaled(losses[finite])
    if values.shape[1] == 1:  # moocore speaks of two objectives and more; a front of one has equal rows only
        return result
    result[finite] = moocore.hv_contributions(values, ref=values.max(axis=0) + 1.0)
    if values.shape[1] == 2:
        ends = (values == values.min(axis=0)).any(axis=1)
        result[finite[ends & (result[finite] > 0)]] = np.inf
    return result
