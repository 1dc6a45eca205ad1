"""Random search without repeats: the baseline every other searcher is held against."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nas.protocols import Context, Exhausted
from nas.searchers.novelty import first_new
from nas.trial import Proposal, Trial


@dataclass(frozen=True)
class RandomSearch:
    """Samples the space; the state is the context alone."""

    def init(self, context: Context) -> Context:
        return context

    def ask(self, state: Context, rng: np.random.Generator) -> Proposal | Exhausted:
        return first_new(state, rng)

    def proposed(self, state: Context, trial: Trial) -> Context:
        return state

    def told(self, state: Context, trial: Trial, rng: np.random.Generator) -> Context:
        return state
