"""Genetic CNN's genetic algorithm (Xie & Yuille 2017, "Genetic CNN", algorithm 1), for any space."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from nas.protocols import Context, Exhausted
from nas.searchers.box import Box, Floats
from nas.searchers.draws import Draw, draft_of, further, mutant, widening
from nas.searchers.members import Member
from nas.searchers.novelty import first_new
from nas.searchers.scalars import Scalarisation, Setting, bound, scalarisation_of
from nas.searchers.selection import handicap, places, roulette
from nas.trial import Proposal, Trial


@dataclass(frozen=True, slots=True)
class Slot:
    """A child to be: of `first` and `second` by crossover, or of `first` by mutation if there is none."""

    first: Member
    second: Member | None = None


@dataclass(slots=True)
class State:
    """`generation`: the last whole one; `kept` and `coming`: those of the next one that are known already,
    unchanged and told; `slots`: children not proposed yet; `awaited`: trials that complete the next one."""

    context: Context
    awaited: int
    scalarisation: Scalarisation | None = None
    generation: list[Member] = field(default_factory=list)
    kept: list[Member] = field(default_factory=list)
    coming: list[Member] = field(default_factory=list)
    slots: deque[Slot] = field(default_factory=deque)
    proposals: int = 0


@dataclass(frozen=True)
class GeneticCNN:
    """Generations: roulette on r_n - r_min, crossover of adjacent pairs, mutation of whom it left out.

    An individual that neither changes goes into the next generation with the outcome it has. Nothing waits
    for a generation: once its children are all proposed and outcomes are open, further children come from
    the last whole one and count for the next. What crossover mixes is the space's affair (the paper swaps
    each stage with probability .2), and a mutation is one change of the space (the paper's flips of each
    bit with probability .05 are about one). With several objectives r is the negative place by rank, then
    crowding distance, unless `scalarisation` says otherwise. What violates limits is never drawn while
    something else is there.

    Attributes:
        population: N.
        crossover: p_C, for each adjacent pair.
        mutation: p_M, for each individual that was not crossed.
        scalarisation: one number of several objectives, see `nas.searchers.scalars`.

    Raises:
        ValueError: `population >= 2` does not hold, a probability is out of range, or the scalarisation is
            wrong.
    """

    population: int = 20
    crossover: float = 0.2
    mutation: float = 0.8
    scalarisation: Setting = None

    def __post_init__(self) -> None:
        if self.population < 2:
            raise ValueError(f"`population >= 2` must hold, but got population={self.population}")
        if not (0 <= self.crossover <= 1 and 0 <= self.mutation <= 1):
            raise ValueError(
                f"`0 <= crossover, mutation <= 1` must hold, but got ({self.crossover=}, {self.mutation=})"
            )
        scalarisation_of(self.scalarisation)

    def init(self, context: Context) -> State:
        return State(context, self.population, bound(self.scalarisation, context))

    def ask(self, state: State, rng: np.random.Generator) -> Proposal | Exhausted:
        context = state.context
        if state.proposals < self.population or not (state.generation or state.coming):
            return first_new(context, rng)
        return first_new(context, rng, self._children(state, rng))

    def _children(self, state: State, rng: np.random.Generator) -> Iterator[Draw]:
        """Children of the next slot; where it gives nothing new, or there is none, of slots drawn now."""
        space = state.context.space
        parents = state.generation or state.coming
        fitness = fitnesses(state, parents, rng)
        for n, changes in enumerate(widening()):
            planned = state.slots and n % 2 == 0
            slot = state.slots[0] if planned else Slot(parents[roulette(fitness, rng)])
            first = slot.first.trial
            if slot.second is None:
                yield mutant(space, first, changes, rng)
                continue
            draft = draft_of(space, first.architecture).crossed(slot.second.trial.architecture, rng)
            if n:  # the crossover alone gave nothing new
                draft = further(draft, changes, rng)
            origin = "crossover+mutate" if n else "crossover"
            yield Draw(draft, (first.id, slot.second.trial.id), origin)

    def proposed(self, state: State, trial: Trial) -> State:
        state.proposals += 1
        if state.slots:
            state.slots.popleft()
        return state

    def told(self, state: State, trial: Trial, rng: np.random.Generator) -> State:
        state.coming.append(Member.of(state.context, trial))
        if len(state.coming) >= state.awaited:
            state.generation = [*state.kept, *state.coming]
            state.kept, slots = self._selected(state, rng)
            state.slots, state.coming, state.awaited = deque(slots), [], len(slots)
        return state

    def _selected(self, state: State, rng: np.random.Generator) -> tuple[list[Member], list[Slot]]:
        """Individuals of the next generation that stay as they are, and the slots of those that change."""
        generation = state.generation
        fitness = fitnesses(state, generation, rng)
        drawn = [generation[roulette(fitness, rng)] for _ in range(self.population)]
        kept: list[Member] = []
        slots: list[Slot] = []
        for place in range(0, self.population, 2):
            pair = drawn[place : place + 2]
            crosses, mutates = rng.random() < self.crossover, rng.random(2) < self.mutation
            if crosses and len(pair) == 2 and pair[0] is not pair[1]:
                slots += [Slot(pair[0], pair[1]), Slot(pair[1], pair[0])]
                continue
            for member, changes in zip(pair, mutates.tolist(), strict=False):
                if changes:
                    slots.append(Slot(member))
                else:
                    kept.append(member)
        if not slots:  # a generation without anything new would be the last
            kept, slots = [], [Slot(member) for member in drawn]
        return kept, slots


def fitnesses(state: State, members: list[Member], rng: np.random.Generator) -> Floats:
    """Loss for `roulette` (`float64[n]`): NaN, no chance, for all but those of the least handicap."""
    objectives = state.context.objectives
    losses = np.array([member.losses for member in members])
    if state.scalarisation is not None:
        numbers = state.scalarisation.scores(losses, Box.of(losses), objectives, rng)
    elif len(objectives) == 1:
        numbers = losses[:, 0]
    else:
        numbers = places(members, objectives, None, rng).astype(np.float64)
    least = min(handicap(member) for member in members)
    return np.where([handicap(member) == least for member in members], numbers, np.nan)
