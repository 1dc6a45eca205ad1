"""Simulated annealing (Kirkpatrick et al. 1983, "Optimization by Simulated Annealing")."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from nas.protocols import Context, Exhausted
from nas.searchers.box import Box
from nas.searchers.draws import Draw, mutant, widening
from nas.searchers.members import Member
from nas.searchers.novelty import first_new
from nas.searchers.scalars import Chebyshev, Scalarisation, Setting, bound, scalarisation_of
from nas.searchers.selection import archived, failed, handicap
from nas.trial import Proposal, Trial


@dataclass(slots=True)
class State:
    """`current`: where the walk stands; `archive`: the front of all that was told, of several objectives."""

    context: Context
    scalarisation: Scalarisation | None
    box: Box
    current: Member | None = None
    archive: list[Member] = field(default_factory=list)
    proposals: int = 0


@dataclass(frozen=True)
class SimulatedAnnealing:
    """A walk by mutations: what is better is accepted, what is worse by d with probability exp(-d / T).

    d is a difference of losses scaled to [0, 1] over what was seen; the temperature falls geometrically
    from `hottest` to `coldest` over `steps` trials and then stays. Several objectives become one number by
    `scalarisation`. Unless its weights are given, so that the walk is after one compromise, it roams the
    front: each trial has weights of its own, uniform on the simplex, and the walk
    returns to a random member of the front now and then (Suppapitnarm et al. 2000, "A Simulated Annealing
    Algorithm for Multiobjective Optimization"). Less
    violation of limits is always better, and a failed trial is accepted only instead of a failed one.

    Attributes:
        initial: random trials, the best of which the walk starts from.
        hottest, coldest: temperatures, in ranges of the loss.
        steps: trials until the coldest.
        returns: trials between two returns to the front, with several objectives.
        scalarisation: one number of several objectives, see `nas.searchers.scalars`; None for `Chebyshev`
            under weights of each trial's own, which reaches all parts of a front.

    Raises:
        ValueError: a number is out of range, or the scalarisation is wrong.
    """

    initial: int = 10
    hottest: float = 0.01
    coldest: float = 0.001
    steps: int = 200
    returns: int = 2
    scalarisation: Setting = None

    def __post_init__(self) -> None:
        if min(self.initial, self.steps, self.returns) < 1:
            raise ValueError(
                "`1 <= initial`, `1 <= steps` and `1 <= returns` must hold, but got "
                f"({self.initial=}, {self.steps=}, {self.returns=})"
            )
        if not 0 < self.coldest <= self.hottest < math.inf:
            raise ValueError(
                f"`0 < coldest <= hottest` must hold, but got ({self.coldest=}, {self.hottest=})"
            )
        scalarisation_of(self.scalarisation)

    def _roams(self) -> bool:
        """Whether every trial has a direction of its own."""
        setting = scalarisation_of(self.scalarisation)
        return setting is None or getattr(setting, "weights", ()) is None

    def temperature(self, trial: int) -> float:
        """Of the trial with this id: hottest (coldest / hottest)^(step / steps), step = id - initial."""
        done = min(max(trial - self.initial, 0) / self.steps, 1.0)
        return float(self.hottest * (self.coldest / self.hottest) ** done)

    def init(self, context: Context) -> State:
        several = len(context.objectives) > 1
        chosen = bound(self.scalarisation, context) or (Chebyshev() if several else None)
        return State(context, chosen, Box.empty(len(context.objectives)))

    def ask(self, state: State, rng: np.random.Generator) -> Proposal | Exhausted:
        if state.proposals < self.initial or state.current is None:
            return first_new(state.context, rng)
        children = self._children(state.context, state.current.trial, rng)
        return first_new(state.context, rng, children)

    def _children(self, context: Context, parent: Trial, rng: np.random.Generator) -> Iterator[Draw]:
        for changes in widening():
            yield mutant(context.space, parent, changes, rng)

    def proposed(self, state: State, trial: Trial) -> State:
        state.proposals += 1
        return state

    def told(self, state: State, trial: Trial, rng: np.random.Generator) -> State:
        member = Member.of(state.context, trial)
        state.box = state.box.including(member.losses)
        if state.current is None or self._accepts(state, state.current, member, rng):
            state.current = member
        if len(state.context.objectives) > 1 and self._roams():
            state.archive = archived(state.archive, member)
            if state.archive and (trial.id + 1) % self.returns == 0:
                state.current = state.archive[int(rng.integers(len(state.archive)))]
        return state

    def _accepts(self, state: State, current: Member, new: Member, rng: np.random.Generator) -> bool:
        luck = rng.random()
        if handicap(new) != handicap(current):
            return handicap(new) < handicap(current)
        if failed(new):
            return True
        both = np.array([new.losses, current.losses])
        if state.scalarisation is None:
            scores = state.box.scaled(both)[:, 0]
        else:
            scores = state.scalarisation.scores(both, state.box, state.context.objectives, rng)
        worse = float(scores[0] - scores[1])
        if new.trial.id < self.initial:  # the best of the first
            return worse < 0
        return worse <= 0 or bool(luck < math.exp(-worse / self.temperature(new.trial.id)))
