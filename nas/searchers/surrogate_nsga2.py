"""NSGA-II whose offspring a model screens before any is trained (pre-selection, Jin 2011, "Surrogate-assisted
evolutionary computation", section 3.2)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nas.protocols import Context, Exhausted
from nas.searchers import batches
from nas.searchers.batches import Past, State
from nas.searchers.offspring import by_rank, children
from nas.searchers.selection import survivors
from nas.surrogates import Model, model_of
from nas.trial import Proposal


@dataclass(frozen=True)
class SurrogateNSGA2:
    """Of many children of the population the best by predicted rank and crowding is evaluated.

    The population is the best of all told trials; what is open takes part as if told what is predicted.

    Attributes:
        initial: random architectures before the first child.
        population: parents, as of `NSGA2`.
        children: how many are weighed for one proposal.
        crossover, mutation: as of `NSGA2`.
        model: a name (see `nas.surrogates.MODELS`), or a model.

    Raises:
        ValueError: a number is out of range, or there is no such model.
    """

    initial: int = 10
    population: int = 20
    children: int = 50
    crossover: float = 0.25
    mutation: float = 1.0
    model: str | Model = "rbf"

    def __post_init__(self) -> None:
        if min(self.initial, self.population, self.children) < 1:
            raise ValueError(
                "`1 <= initial, population, children` must hold, but got "
                f"({self.initial=}, {self.population=}, {self.children=})"
            )
        if not (0 <= self.crossover <= 1 and 0 <= self.mutation <= 1):
            raise ValueError(
                f"`0 <= crossover, mutation <= 1` must hold, but got ({self.crossover=}, {self.mutation=})"
            )
        model_of(self.model)

    def init(self, context: Context) -> State:
        return State.of(context, self.initial, batch=1)

    def ask(self, state: State, rng: np.random.Generator) -> Proposal | Exhausted:
        return batches.ask(state, model_of(self.model), self._chosen, rng)

    proposed = staticmethod(batches.proposed)
    told = staticmethod(batches.told)

    def _chosen(self, past: Past, count: int, rng: np.random.Generator) -> list[Proposal]:
        parents = survivors(past.members, self.population)
        rates = self.crossover, self.mutation
        proposals = children(past.context, parents, max(self.children, count), *rates, rng)
        best = by_rank(past.members, past.predictor.members(proposals, before=len(past.believed)))
        return [member.trial.proposal for member in best[:count]]
