"""Regularized evolution: an aging tournament (Real et al. 2019, "Regularized Evolution for Image
Classifier Architecture Search", algorithm 1)."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from nas.protocols import Context, Exhausted
from nas.searchers.draws import Draw, mutant, widening
from nas.searchers.members import Member
from nas.searchers.novelty import first_new
from nas.searchers.scalars import Scalarisation, Setting, bound, scalarisation_of
from nas.searchers.selection import places, tournament
from nas.trial import Proposal, Trial


@dataclass(slots=True)
class State:
    context: Context
    population: deque[Member]
    scalarisation: Scalarisation | None
    proposals: int = 0


@dataclass(frozen=True)
class RegularizedEvolution:
    """Mutates the best of `sample` members, drawn with replacement from the `population` youngest.

    With several objectives the best is that of the first rank among those alive, then the least crowded,
    unless `scalarisation` says otherwise. Less violation of limits goes first.

    Attributes:
        population: P, how many of the youngest trials are alive.
        sample: S, tournament size.
        scalarisation: one number of several objectives, see `nas.searchers.scalars`.

    Raises:
        ValueError: `1 <= population` or `1 <= sample` does not hold, or the scalarisation is wrong.
    """

    population: int = 100
    sample: int = 25
    scalarisation: Setting = None

    def __post_init__(self) -> None:
        if self.population < 1 or self.sample < 1:
            raise ValueError(
                f"`1 <= population` and `1 <= sample` must hold, but got ({self.population=}, {self.sample=})"
            )
        scalarisation_of(self.scalarisation)

    def init(self, context: Context) -> State:
        return State(context, deque(maxlen=self.population), bound(self.scalarisation, context))

    def ask(self, state: State, rng: np.random.Generator) -> Proposal | Exhausted:
        alive = list(state.population)
        if state.proposals < self.population or not alive:
            return first_new(state.context, rng)
        children = self._children(state, alive, rng)
        return first_new(state.context, rng, children)

    def _children(self, state: State, alive: list[Member], rng: np.random.Generator) -> Iterator[Draw]:
        """Mutations of the winner; a new tournament for each draw: where one has none left, another has."""
        context = state.context
        standing = places(alive, context.objectives, state.scalarisation, rng)
        for changes in widening():
            parent = alive[tournament(standing, rng, self.sample, replace=True)].trial
            yield mutant(context.space, parent, changes, rng)

    def proposed(self, state: State, trial: Trial) -> State:
        state.proposals += 1
        return state

    def told(self, state: State, trial: Trial, rng: np.random.Generator) -> State:
        state.population.append(Member.of(state.context, trial))
        return state
