"""NSGA-II (Deb et al. 2002, "A Fast and Elitist Multiobjective Genetic Algorithm: NSGA-II")."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from nas.protocols import Context, Exhausted
from nas.searchers.draws import Draw, child_of, widening
from nas.searchers.members import Member
from nas.searchers.novelty import first_new
from nas.searchers.selection import crowded_tournament, dominance_tournament, survivors
from nas.trial import Proposal, Trial

TOURNAMENTS = {"rank": crowded_tournament, "dominance": dominance_tournament}
"""How a parent is chosen, by the name of the setting."""


@dataclass(slots=True)
class State:
    context: Context
    population: list[Member] = field(default_factory=list)
    offspring: list[Member] = field(default_factory=list)
    proposals: int = 0


@dataclass(frozen=True)
class NSGA2:
    """Binary tournaments, crossover, mutation, elitist survival by (rank, crowding). Duplicates are redrawn.

    The defaults were chosen on NAS-Bench-Macro, by seeds other than those of the published comparison; the
    paper's are `offspring=None, crossover=0.9`.

    Attributes:
        population: survivors.
        offspring: trials told between two renewals of the survivors: 1 is steady state, None for
            `population`, the generations of the paper. Nothing waits for a renewal.
        crossover: probability that a child has two parents.
        mutation: probability that a child of two parents is mutated as well; a child of one always is.
        tournament: "rank", won by (rank, crowding) as in the paper, or "dominance", by dominance between the
            two, then crowding, as in pymoo and NSGA-Net.

    Raises:
        ValueError: a number is out of range, or there is no such tournament.
    """

    population: int = 20
    offspring: int | None = 1
    crossover: float = 0.25
    mutation: float = 1.0
    tournament: Literal["rank", "dominance"] = "rank"

    def __post_init__(self) -> None:
        if self.population < 1 or (self.offspring is not None and self.offspring < 1):
            raise ValueError(
                "`1 <= population` and `1 <= offspring` must hold, but got "
                f"({self.population=}, {self.offspring=})"
            )
        if not (0 <= self.crossover <= 1 and 0 <= self.mutation <= 1):
            raise ValueError(
                f"`0 <= crossover, mutation <= 1` must hold, but got ({self.crossover=}, {self.mutation=})"
            )
        if self.tournament not in TOURNAMENTS:
            raise ValueError(f"tournament must be one of {list(TOURNAMENTS)}, but got {self.tournament!r}")

    def init(self, context: Context) -> State:
        return State(context)

    def ask(self, state: State, rng: np.random.Generator) -> Proposal | Exhausted:
        context = state.context
        parents = state.population or state.offspring
        if state.proposals < self.population or not parents:
            return first_new(context, rng)
        return first_new(context, rng, self._children(context, parents, rng))

    def _children(
        self, context: Context, population: list[Member], rng: np.random.Generator
    ) -> Iterator[Draw]:
        """Children of parents that are chosen anew for each draw: where one has none left, another has."""
        chosen = TOURNAMENTS[self.tournament]
        for changes in widening():
            first, second = (chosen(population, rng).trial for _ in range(2))
            yield child_of(context.space, first, second, changes, self.crossover, self.mutation, rng)

    def proposed(self, state: State, trial: Trial) -> State:
        state.proposals += 1
        return state

    def told(self, state: State, trial: Trial, rng: np.random.Generator) -> State:
        state.offspring.append(Member.of(state.context, trial))
        first = not state.population
        due = self.population if first or self.offspring is None else self.offspring
        if len(state.offspring) >= due:
            state.population = survivors([*state.population, *state.offspring], self.population)
            state.offspring = []
        return state
