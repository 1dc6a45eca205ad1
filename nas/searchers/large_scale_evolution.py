"""Large-scale evolution (Real et al. 2017, "Large-Scale Evolution of Image Classifiers", section 3.1)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from nas.protocols import Context, Exhausted
from nas.searchers.draws import Draw, mutant, widening
from nas.searchers.members import Member
from nas.searchers.novelty import first_new
from nas.searchers.scalars import Scalarisation, Setting, bound, scalarisation_of
from nas.searchers.selection import places
from nas.trial import Proposal, Trial


@dataclass(slots=True)
class State:
    """`parents`: of the next proposals, in order; each won its pair, the other of which is dead."""

    context: Context
    scalarisation: Scalarisation | None = None
    alive: list[Member] = field(default_factory=list)
    parents: list[Member] = field(default_factory=list)
    proposals: int = 0


@dataclass(frozen=True)
class LargeScaleEvolution:
    """Pairs: of two picked at random the worse is killed, the better is copied, and its copy mutated.

    A pair is picked as soon as a trial is told, for the next free proposal; nothing waits for a
    generation. Proposals that come before their pair (outcomes are open) are of one that is not killed
    for. The worse is that of the higher rank, or the smaller crowding distance, among those alive; with one
    objective that of the higher loss; `scalarisation` may say otherwise. Violations of limits come behind,
    failed trials last.

    Attributes:
        population: P; the paper's 1,000 are for 250 workers.
        scalarisation: one number of several objectives, see `nas.searchers.scalars`.

    Raises:
        ValueError: `population >= 2` does not hold, or the scalarisation is wrong.
    """

    population: int = 50
    scalarisation: Setting = None

    def __post_init__(self) -> None:
        if self.population < 2:
            raise ValueError(f"`population >= 2` must hold, but got population={self.population}")
        scalarisation_of(self.scalarisation)

    def init(self, context: Context) -> State:
        return State(context, bound(self.scalarisation, context))

    def ask(self, state: State, rng: np.random.Generator) -> Proposal | Exhausted:
        if state.proposals < self.population or not state.alive:
            return first_new(state.context, rng)
        children = self._children(state, rng)
        return first_new(state.context, rng, children)

    def _children(self, state: State, rng: np.random.Generator) -> Iterator[Draw]:
        """Mutations of the first parent in the queue; where it has none left, of winners of other pairs."""
        for n, changes in enumerate(widening()):
            queued = state.parents and n % 2 == 0
            parent = state.parents[0] if queued else _match(state, rng)[0]
            yield mutant(state.context.space, parent.trial, changes, rng)

    def proposed(self, state: State, trial: Trial) -> State:
        state.proposals += 1
        if state.proposals > self.population and state.parents:
            del state.parents[0]
        return state

    def told(self, state: State, trial: Trial, rng: np.random.Generator) -> State:
        state.alive.append(Member.of(state.context, trial))
        if len(state.alive) >= self.population:
            winner, loser = _match(state, rng)
            state.alive = [member for member in state.alive if member.trial is not loser.trial]
            state.parents.append(winner)
        return state


def _match(state: State, rng: np.random.Generator) -> tuple[Member, Member]:
    """(winner, loser) of two different members, drawn uniformly; a single one wins against itself."""
    members = state.alive
    if len(members) == 1:
        return members[0], members[0]
    standing = places(members, state.context.objectives, state.scalarisation, rng)
    i, j = rng.choice(len(members), size=2, replace=False).tolist()
    return (members[j], members[i]) if standing[j] < standing[i] else (members[i], members[j])
