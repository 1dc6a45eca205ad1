"""MOEA/D (Zhang & Li 2007, "MOEA/D: A Multiobjective Evolutionary Algorithm Based on Decomposition")."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from math import isinf

import numpy as np
from numpy.typing import NDArray

from nas.protocols import Context, Exhausted
from nas.scalarisation import chebyshev
from nas.searchers.box import Box, Floats
from nas.searchers.draws import Draw, child_of, widening
from nas.searchers.members import Member
from nas.searchers.novelty import first_new
from nas.searchers.nsga3 import fitting_partitions, reference_directions
from nas.trial import Proposal, Trial


@dataclass(slots=True)
class State:
    """`population[i]` is the best trial known for the weights `weights[i]`; empty before the first is told.

    Attributes:
        weights: `float64[n, m]`, one subproblem a row.
        neighbours: `int64[n, T]`, the subproblems with the nearest weights, itself first.
    """

    context: Context
    weights: Floats
    neighbours: NDArray[np.int64]
    box: Box
    population: list[Member] = field(default_factory=list)
    proposals: int = 0


@dataclass(frozen=True)
class MOEAD:
    """One subproblem for each weighting of the losses (Chebyshev); parents and replacement are neighbours.

    Ask n serves subproblem n modulo their number: its parents are two of the neighbourhood, and its child
    replaces all that it is not worse than there (section III). Losses are scaled to [0, 1] over all that was
    told, less violation of limits goes first, failed trials last. A random architecture of the start may
    replace any member.

    Attributes:
        population: random architectures at the start, and the most subproblems (Das and Dennis's weights
            come in certain numbers; at least one an objective).
        neighbours: T, subproblems of a neighbourhood; as in the paper.
        crossover, mutation: as of `NSGA2`.

    Raises:
        ValueError: a number is out of range.
    """

    population: int = 20
    neighbours: int = 20
    crossover: float = 0.25
    mutation: float = 1.0

    def __post_init__(self) -> None:
        if self.population < 1 or self.neighbours < 1:
            raise ValueError(
                "`1 <= population` and `1 <= neighbours` must hold, but got "
                f"({self.population=}, {self.neighbours=})"
            )
        if not (0 <= self.crossover <= 1 and 0 <= self.mutation <= 1):
            raise ValueError(
                f"`0 <= crossover, mutation <= 1` must hold, but got ({self.crossover=}, {self.mutation=})"
            )

    def init(self, context: Context) -> State:
        m = len(context.objectives)
        weights = reference_directions(m, fitting_partitions(m, self.population))
        distances = ((weights[:, None] - weights) ** 2).sum(axis=2)
        nearest = np.argsort(distances, axis=1, kind="stable")[:, : self.neighbours]
        return State(context, weights, nearest, Box.empty(m))

    def ask(self, state: State, rng: np.random.Generator) -> Proposal | Exhausted:
        context = state.context
        if state.proposals < self.population or not state.population:
            return first_new(context, rng)
        return first_new(context, rng, self._children(state, rng))

    def _children(self, state: State, rng: np.random.Generator) -> Iterator[Draw]:
        """Children of parents drawn anew from the neighbourhood; wider draws take the whole population."""
        space = state.context.space
        near = state.neighbours[state.proposals % len(state.weights)]
        for changes in widening():
            pool = near if changes == 1 else np.arange(len(state.weights))
            first, second = (state.population[i].trial for i in rng.choice(pool, 2))
            yield child_of(space, first, second, changes, self.crossover, self.mutation, rng)

    def proposed(self, state: State, trial: Trial) -> State:
        state.proposals += 1
        return state

    def told(self, state: State, trial: Trial, rng: np.random.Generator) -> State:
        new = Member.of(state.context, trial)
        state.box = state.box.including(new.losses)
        if not state.population:
            state.population = [new] * len(state.weights)
            return state
        everywhere = trial.id < self.population
        served = range(len(state.weights)) if everywhere else state.neighbours[trial.id % len(state.weights)]
        places = [int(i) for i in served]
        now = _fitnesses([state.population[i] for i in places], state, places)
        then = _fitnesses([new] * len(places), state, places)
        for i, old, better in zip(places, now, then, strict=True):
            if better <= old:
                state.population[i] = new
        return state


def _fitnesses(
    members: Sequence[Member], state: State, subproblems: Sequence[int]
) -> list[tuple[bool, float, float]]:
    """(failed, violation, Chebyshev's distance under the weights of its subproblem) of each: less is better.

    A weight of 0 counts as 1e-4, so that the ends of the front are not merely weakly optimal.
    """
    away = state.box.scaled(np.array([member.losses for member in members]))
    weights = np.maximum(state.weights[subproblems], 1e-4)
    distances = chebyshev(weights * away, np.ones(away.shape[1])).tolist()
    return [(isinf(distance), m.violation, distance) for m, distance in zip(members, distances, strict=True)]
