"""Simulated annealing (Kirkpatrick et al. 1983, "Optimization by Simulated Annealing")."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain
from typing import Literal, get_args

import numpy as np

from nas.protocols import Context, Exhausted
from nas.searchers.members import Member
from nas.searchers.novelty import changed, first_new, sampled, widening
from nas.searchers.selection import Floats, archived, failed, handicap
from nas.trial import Proposal, Trial

Scalarization = Literal["chebyshev", "weighted_sum"]


@dataclass(slots=True)
class State:
    """`low`, `high`: `float64[m]`, of the losses of all that succeeded."""

    context: Context
    current: Member | None
    low: Floats
    high: Floats
    archive: list[Member] = field(default_factory=list)
    proposals: int = 0


@dataclass(frozen=True)
class SimulatedAnnealing:
    """A walk by mutations: what is better is accepted, what is worse by d with probability exp(-d / T).

    d is a difference of losses scaled to [0, 1] over what was seen; the temperature falls geometrically
    from `hottest` to `coldest` over `steps` trials and then stays. Several objectives become one number,
    each trial under weights of its own, uniform on the simplex, so that the walk roams the front, and it
    returns to a random member of the front now and then (Suppapitnarm et al. 2000, "A Simulated Annealing
    Algorithm for Multiobjective Optimization"). Less
    violation of limits is always better, and a failed trial is accepted only instead of a failed one.

    Attributes:
        initial: random trials, the best of which the walk starts from.
        hottest, coldest: temperatures, in ranges of the loss.
        steps: trials until the coldest.
        returns: trials between two returns to the front, with several objectives.
        scalarization: "chebyshev", the largest weighted scaled loss plus .05 of their sum (so that
            non-convex parts of a front are reached), or "weighted_sum".

    Raises:
        ValueError: a number is out of range, or there is no such scalarization.
    """

    initial: int = 5
    hottest: float = 0.03
    coldest: float = 0.001
    steps: int = 200
    returns: int = 5
    scalarization: Scalarization = "chebyshev"

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
        if self.scalarization not in get_args(Scalarization):
            raise ValueError(
                f"scalarization must be one of {get_args(Scalarization)}, but got {self.scalarization!r}"
            )

    def temperature(self, trial: int) -> float:
        """Of the trial with this id: hottest (coldest / hottest)^(step / steps), step = id - initial."""
        done = min(max(trial - self.initial, 0) / self.steps, 1.0)
        return float(self.hottest * (self.coldest / self.hottest) ** done)

    def init(self, context: Context) -> State:
        count = len(context.objectives)
        return State(context, None, np.full(count, np.inf), np.full(count, -np.inf))

    def ask(self, state: State, rng: np.random.Generator) -> Proposal | Exhausted:
        if state.proposals < self.initial or state.current is None:
            return first_new(state.context, sampled(state.context, rng))
        children = self._children(state.context, state.current.trial, rng)
        return first_new(state.context, chain(children, sampled(state.context, rng)))

    def _children(self, context: Context, parent: Trial, rng: np.random.Generator) -> Iterator[Proposal]:
        for changes in widening():
            child = changed(context.space, parent.architecture, changes, rng)
            yield Proposal(child, (parent.id,), "mutate")

    def proposed(self, state: State, trial: Trial) -> State:
        state.proposals += 1
        return state

    def told(self, state: State, trial: Trial, rng: np.random.Generator) -> State:
        member = Member.of(state.context, trial)
        if not failed(member):
            state.low = np.minimum(state.low, member.losses)
            state.high = np.maximum(state.high, member.losses)
        if state.current is None or self._accepts(state, state.current, member, rng):
            state.current = member
        if len(state.low) > 1:
            state.archive = archived(state.archive, member)
            if state.archive and (trial.id + 1) % self.returns == 0:
                state.current = state.archive[int(rng.integers(len(state.archive)))]
        return state

    def _accepts(self, state: State, current: Member, new: Member, rng: np.random.Generator) -> bool:
        weights, luck = rng.dirichlet(np.ones(len(state.low))), rng.random()
        if handicap(new) != handicap(current):
            return handicap(new) < handicap(current)
        if failed(new):
            return True
        span = np.where(state.high > state.low, state.high - state.low, 1.0)
        worse = self.scalar((new.losses - state.low) / span, weights) - self.scalar(
            (current.losses - state.low) / span, weights
        )
        if new.trial.id < self.initial:  # the best of the first
            return worse < 0
        return worse <= 0 or bool(luck < math.exp(-worse / self.temperature(new.trial.id)))

    def scalar(self, losses: Floats, weights: Floats) -> float:
        """One number of scaled losses and weights, both `float64[m]`."""
        weighted = weights * losses
        if self.scalarization == "weighted_sum":
            return float(weighted.sum())
        return float(weighted.max() + 0.05 * weighted.sum())
