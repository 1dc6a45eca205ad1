"""Local search on a model, from the front (after Paquete et al. 2004, "Pareto Local Optimum Sets"): only what
it ends at is trained."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from nas.protocols import Context, Exhausted
from nas.searchers import batches
from nas.searchers.batches import Past, State
from nas.searchers.gains import greedy
from nas.searchers.members import Member
from nas.searchers.offspring import fresh, one_change
from nas.searchers.selection import archived, survivors
from nas.surrogates import Model, model_of
from nas.trial import Proposal


@dataclass(frozen=True)
class SurrogateLocalSearch:
    """The predicted local optimum that adds most hypervolume to the front is evaluated.

    A Pareto local search starts from the best trials, told or open: the neighbours of one of its archive are
    predicted and enter it if nothing there dominates them, until all of the archive were visited or the steps
    are spent. Of the new ones in the archive, or if there are none of all that were predicted, that is
    chosen which adds most hypervolume to the front of what is known; with one objective, the best.

    Attributes:
        initial: random architectures before the first model.
        starts: trials the search starts from, in any case; with all of their front.
        neighbours: drawn around each one that is visited, one change away.
        steps: visits, at most.
        model: a name (see `nas.surrogates.MODELS`), or a model.

    Raises:
        ValueError: a number is out of range, or there is no such model.
    """

    initial: int = 10
    starts: int = 5
    neighbours: int = 10
    steps: int = 30
    model: str | Model = "rbf"

    def __post_init__(self) -> None:
        if min(self.initial, self.starts, self.neighbours, self.steps) < 1:
            raise ValueError(
                "`1 <= initial, starts, neighbours, steps` must hold, but got "
                f"({self.initial=}, {self.starts=}, {self.neighbours=}, {self.steps=})"
            )
        model_of(self.model)

    def init(self, context: Context) -> State:
        return State.of(context, self.initial, batch=1)

    def ask(self, state: State, rng: np.random.Generator) -> Proposal | Exhausted:
        return batches.ask(state, model_of(self.model), self._chosen, rng)

    proposed = staticmethod(batches.proposed)
    told = staticmethod(batches.told)

    def _chosen(self, past: Past, count: int, rng: np.random.Generator) -> list[Proposal]:
        archive, found = self._searched(past, rng)
        new = {id(member.trial) for member in archive}
        optima = [member for member in found if id(member.trial) in new]
        candidates = optima if len(optima) >= count or not found else survivors(found, CONSIDERED)
        return [candidates[place].trial.proposal for place in greedy(past.members, candidates, count)]

    def _searched(self, past: Past, rng: np.random.Generator) -> tuple[list[Member], list[Member]]:
        """The archive when the search ended, and all new members it came upon."""
        known = past.members
        found: dict[str, Member] = {}
        identify, seen = past.context.identify, past.context.seen
        context = replace(past.context, seen=lambda key: key in found or seen(key))
        archive: list[Member] = []
        for member in known:
            archive = archived(archive, member)
        starts = survivors(known, self.starts)
        visited: set[int] = set()
        for _ in range(self.steps):
            waiting = [m for m in (*starts, *archive) if m.trial.id not in visited]
            if not waiting:
                break
            member = waiting[int(rng.integers(len(waiting)))]
            visited.add(member.trial.id)
            born = fresh(context, one_change(context, member, self.neighbours, rng), self.neighbours)
            for new in past.predictor.members(born, before=len(past.believed) + len(found)):
                found[identify(new.trial.architecture)] = new
                archive = archived(archive, new)
        return archive, list(found.values())


CONSIDERED = 50
"""At most so many of the best that were predicted are weighed where no new one is in the archive."""
