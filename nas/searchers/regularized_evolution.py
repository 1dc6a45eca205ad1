"""Regularized evolution: an aging tournament (Real et al. 2019, "Regularized Evolution for Image
Classifier Architecture Search", algorithm 1)."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain

import numpy as np

from nas.protocols import Context, Exhausted
from nas.searchers.members import Member
from nas.searchers.novelty import changed, first_new, sampled, widening
from nas.trial import Proposal, Trial


@dataclass(slots=True)
class State:
    context: Context
    population: deque[Member]
    proposals: int = 0


@dataclass(frozen=True)
class RegularizedEvolution:
    """Mutates the best of `sample` members, drawn with replacement from the `population` youngest.

    With several objectives each tournament has a direction of its own: the best has the smallest weighted
    sum of losses, scaled to [0, 1] over the population, under weights uniform on the simplex. Less violation
    of limits goes first.

    Attributes:
        population: P, how many of the youngest trials are alive.
        sample: S, tournament size.

    Raises:
        ValueError: `1 <= population` or `1 <= sample` does not hold.
    """

    population: int = 100
    sample: int = 25

    def __post_init__(self) -> None:
        if self.population < 1 or self.sample < 1:
            raise ValueError(
                f"`1 <= population` and `1 <= sample` must hold, but got ({self.population=}, {self.sample=})"
            )

    def init(self, context: Context) -> State:
        return State(context, deque(maxlen=self.population))

    def ask(self, state: State, rng: np.random.Generator) -> Proposal | Exhausted:
        alive = list(state.population)
        if state.proposals < self.population or not alive:
            return first_new(state.context, sampled(state.context, rng))
        children = self._children(state.context, alive, rng)
        return first_new(state.context, chain(children, sampled(state.context, rng)))

    def _children(
        self, context: Context, alive: list[Member], rng: np.random.Generator
    ) -> Iterator[Proposal]:
        """Mutations of the winner; a new tournament for each draw: where one has none left, another has."""
        for changes in widening():
            drawn = [alive[i] for i in rng.integers(len(alive), size=self.sample)]
            parent = drawn[_fittest(alive, drawn, rng)].trial
            child = changed(context.space, parent.architecture, changes, rng)
            yield Proposal(child, (parent.id,), "mutate")

    def proposed(self, state: State, trial: Trial) -> State:
        state.proposals += 1
        return state

    def told(self, state: State, trial: Trial, rng: np.random.Generator) -> State:
        state.population.append(Member.of(state.context, trial))
        return state


def _fittest(alive: list[Member], drawn: list[Member], rng: np.random.Generator) -> int:
    """Index of the tournament's winner; failed trials (NaN) lose against all that succeeded."""
    losses = np.array([member.losses for member in drawn])
    if losses.shape[1] == 1:
        fitness = losses[:, 0]
    else:
        everyone = np.array([member.losses for member in alive])
        everyone[~np.isfinite(everyone).all(axis=1)] = np.nan
        if np.isnan(everyone).all():
            fitness = np.full(len(drawn), np.nan)
        else:
            low, high = np.nanmin(everyone, axis=0), np.nanmax(everyone, axis=0)
            scaled = (losses - low) / np.where(high > low, high - low, 1.0)
            fitness = scaled @ rng.dirichlet(np.ones(losses.shape[1]))
    violation = np.array([member.violation for member in drawn])
    fitness = np.where(np.isfinite(fitness), fitness, np.inf)
    return int(np.lexsort((fitness, violation, ~np.isfinite(fitness)))[0])
