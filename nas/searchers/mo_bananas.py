"""MO-BANANAS (Izquierdo et al. 2021, "Bag of Baselines for Multi-objective Joint Neural Architecture Search
and Hyperparameter Optimization")."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nas.protocols import Context, Exhausted
from nas.searchers import batches
from nas.searchers.batches import Past, State
from nas.searchers.offspring import by_rank, mutations
from nas.searchers.selection import survivors
from nas.surrogates import Model, model_of
from nas.trial import Proposal


@dataclass(frozen=True)
class MOBANANAS:
    """Mutations of the best by (front, crowding), picked by the rank and crowding of what is predicted.

    A front that does not fit among the parents is cut by crowding, where the authors' code cuts it in sort
    order, and candidates are ranked together with all that was evaluated.

    Attributes:
        initial: random architectures before the first batch.
        batch: proposals of one fit.
        candidates: mutations that are weighed for a batch.
        parents: how many are mutated.
        model: a name (see `nas.surrogates.MODELS`), or a model.

    Raises:
        ValueError: a number is out of range, or there is no such model.
    """

    initial: int = 10
    batch: int = 4
    candidates: int = 100
    parents: int = 20
    model: str | Model = "rbf"

    def __post_init__(self) -> None:
        if min(self.initial, self.batch, self.candidates, self.parents) < 1:
            raise ValueError(
                "`1 <= initial, batch, candidates, parents` must hold, but got "
                f"({self.initial=}, {self.batch=}, {self.candidates=}, {self.parents=})"
            )
        model_of(self.model)

    def init(self, context: Context) -> State:
        return State.of(context, self.initial, self.batch)

    def ask(self, state: State, rng: np.random.Generator) -> Proposal | Exhausted:
        return batches.ask(state, model_of(self.model), self._chosen, rng)

    proposed = staticmethod(batches.proposed)
    told = staticmethod(batches.told)

    def _chosen(self, past: Past, count: int, rng: np.random.Generator) -> list[Proposal]:
        parents = survivors(past.evidence.succeeded, self.parents)
        proposals = mutations(past.context, parents, max(self.candidates, count), rng)
        best = by_rank(past.members, past.predictor.members(proposals, before=len(past.believed)))
        return [member.trial.proposal for member in best[:count]]
