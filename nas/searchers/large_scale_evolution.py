"""Large-scale evolution (Real et al. 2017, "Large-Scale Evolution of Image Classifiers", section 3.1)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain

import numpy as np

from nas.protocols import Context, Exhausted
from nas.searchers.members import Member
from nas.searchers.novelty import changed, first_new, sampled, widening
from nas.searchers.nsga2 import survivors
from nas.trial import Proposal, Trial


@dataclass(slots=True)
class State:
    """`parents`: of the next proposals, in order; each won its pair, the other of which is dead."""

    context: Context
    alive: list[Member] = field(default_factory=list)
    parents: list[Member] = field(default_factory=list)
    proposals: int = 0


@dataclass(frozen=True)
class LargeScaleEvolution:
    """Pairs: of two picked at random the worse is killed, the better is copied, and its copy mutated.

    A pair is picked as soon as a trial is told, for the next free proposal; nothing waits for a
    generation. Proposals that come before their pair (outcomes are open) are of one that is not killed
    for. The worse is that of the higher rank, or the smaller crowding distance, among those alive; with one
    objective that of the higher loss. Violations of limits come behind, failed trials last.

    Attributes:
        population: P; the paper's 1,000 are for 250 workers.

    Raises:
        ValueError: `population >= 2` does not hold.
    """

    population: int = 50

    def __post_init__(self) -> None:
        if self.population < 2:
            raise ValueError(f"`population >= 2` must hold, but got population={self.population}")

    def init(self, context: Context) -> State:
        return State(context)

    def ask(self, state: State, rng: np.random.Generator) -> Proposal | Exhausted:
        if state.proposals < self.population or not state.alive:
            return first_new(state.context, sampled(state.context, rng))
        children = self._children(state, rng)
        return first_new(state.context, chain(children, sampled(state.context, rng)))

    def _children(self, state: State, rng: np.random.Generator) -> Iterator[Proposal]:
        """Mutations of the first parent in the queue; where it has none left, of winners of other pairs."""
        for n, changes in enumerate(widening()):
            queued = state.parents and n % 2 == 0
            parent = state.parents[0] if queued else _match(state.alive, rng)[0]
            child = changed(state.context.space, parent.trial.architecture, changes, rng)
            yield Proposal(child, (parent.trial.id,), "mutate")

    def proposed(self, state: State, trial: Trial) -> State:
        state.proposals += 1
        if state.proposals > self.population and state.parents:
            del state.parents[0]
        return state

    def told(self, state: State, trial: Trial, rng: np.random.Generator) -> State:
        state.alive.append(Member.of(state.context, trial))
        if len(state.alive) >= self.population:
            winner, loser = _match(state.alive, rng)
            state.alive = [member for member in state.alive if member.trial is not loser.trial]
            state.parents.append(winner)
        return state


def _match(members: list[Member], rng: np.random.Generator) -> tuple[Member, Member]:
    """(winner, loser) of two different members, drawn uniformly; a single one wins against itself."""
    if len(members) == 1:
        return members[0], members[0]
    ranked = survivors(members, len(members))
    i, j = rng.choice(len(ranked), size=2, replace=False).tolist()
    a, b = ranked[i], ranked[j]
    return (b, a) if (b.rank, -b.crowding) < (a.rank, -a.crowding) else (a, b)
