"""BANANAS (White, Neiswanger & Savani 2021, "BANANAS: Bayesian Optimization with Neural Architectures for
Neural Architecture Search"), for any number of objectives."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nas.protocols import Context, Exhausted
from nas.searchers import batches
from nas.searchers.batches import Past, State
from nas.searchers.evidence import front_of
from nas.searchers.gains import greedy
from nas.searchers.offspring import mutations
from nas.searchers.selection import survivors
from nas.surrogates import Model, model_of
from nas.trial import Proposal


@dataclass(frozen=True)
class BANANAS:
    """Mutations of the best, picked by independent Thompson sampling on an ensemble of path-encoded networks.

    For each batch the model is fitted; of `candidates` mutations of the best (of the front, with several
    objectives) each has its losses drawn from its own predictions, and those with the least are proposed:
    with several objectives those that add most hypervolume, one after the other. Spaces without paths are
    seen by their own encoding.

    Attributes:
        initial: random architectures before the first batch.
        batch: proposals of one fit, k; the paper's is 10.
        candidates: mutations that are weighed for a batch; the paper's are 100, of one parent.
        parents: with one objective, how many of the best are mutated.
        model: a name (see `nas.surrogates.MODELS`), or a model; the paper's is "mlp".

    Raises:
        ValueError: a number is out of range, or there is no such model.
    """

    initial: int = 10
    batch: int = 5
    candidates: int = 200
    parents: int = 5
    model: str | Model = "mlp"

    def __post_init__(self) -> None:
        if min(self.initial, self.batch, self.candidates, self.parents) < 1:
            raise ValueError(
                "`1 <= initial, batch, candidates, parents` must hold, but got "
                f"({self.initial=}, {self.batch=}, {self.candidates=}, {self.parents=})"
            )
        model_of(self.model)

    def init(self, context: Context) -> State:
        return State.of(context, self.initial, self.batch, paths_alone=True)

    def ask(self, state: State, rng: np.random.Generator) -> Proposal | Exhausted:
        return batches.ask(state, model_of(self.model), self._chosen, rng)

    proposed = staticmethod(batches.proposed)
    told = staticmethod(batches.told)

    def _chosen(self, past: Past, count: int, rng: np.random.Generator) -> list[Proposal]:
        known = past.evidence.succeeded
        parents = front_of(known) if known[0].losses.size > 1 else survivors(known, self.parents)
        proposals = mutations(past.context, parents, max(self.candidates, count), rng)
        drawn = past.predictor.members(proposals, rng)
        return [proposals[place] for place in greedy(past.members, drawn, count)]
