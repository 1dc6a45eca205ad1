"""A genetic algorithm on numbers: pymoo's SBX and polynomial mutation (Deb & Agrawal 1995, "Simulated Binary
Crossover for Continuous Search Space"; Deb & Goyal 1996)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import cast

import numpy as np
from numpy.typing import NDArray

from nas.protocols import Context, Exhausted, NumericSpace
from nas.searchers import nsga2
from nas.searchers.box import Floats
from nas.searchers.draws import Draw, changed, widening
from nas.searchers.members import Member
from nas.searchers.novelty import first_new
from nas.searchers.numeric import numeric
from nas.searchers.scalars import Scalarisation, Setting, bound, scalarisation_of
from nas.searchers.selection import best, binary_tournaments, places
from nas.trial import Proposal, Trial


@dataclass(slots=True)
class State(nsga2.State):
    """`standing`: places of the population among all that it was chosen from (`int64[n]`)."""

    scalarisation: Scalarisation | None = None
    standing: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, dtype=np.int64))


@dataclass(frozen=True)
class GA:
    """Binary tournaments, SBX, polynomial mutation, rounding to the nearest architecture; the best survive.

    With several objectives the best is that of the first rank, then the least crowded, unless `scalarisation`
    says otherwise. Less violation of limits goes first. A child that was proposed before is changed further
    by the space's mutation.

    Attributes:
        population: survivors.
        offspring: trials told between two renewals of the survivors; None for `population`, pymoo's.
        crossover: probability that a child has two parents, pymoo's.
        mutation: numbers of a child that mutate, on average; pymoo's.
        eta: distribution index of both operators: the less, the further from the parents. pymoo's 15 and 20
            are for real numbers, the 3 of its examples is for integers.
        scalarisation: one number of several objectives, see `nas.searchers.scalars`.

    Raises:
        ValueError: a number is out of range, or the scalarisation is wrong.
    """

    population: int = 20
    offspring: int | None = 1
    crossover: float = 0.9
    mutation: float = 1.0
    eta: float = 3.0
    scalarisation: Setting = None

    def __post_init__(self) -> None:
        nsga2.NSGA2(self.population, self.offspring, self.crossover)
        if not (self.mutation >= 0 and 0 < self.eta < np.inf):
            raise ValueError(
                f"`mutation >= 0` and `0 < eta < inf` must hold, but got ({self.mutation=}, {self.eta=})"
            )
        scalarisation_of(self.scalarisation)

    def init(self, context: Context) -> State:
        numeric(context, "GA")
        return State(context, scalarisation=bound(self.scalarisation, context))

    def ask(self, state: State, rng: np.random.Generator) -> Proposal | Exhausted:
        if state.proposals < self.population or not (state.population or state.offspring):
            return first_new(state.context, rng)
        return first_new(state.context, rng, self._children(state, rng))

    def _children(self, state: State, rng: np.random.Generator) -> Iterator[Draw]:
        """Children of parents that are chosen anew for each draw: where two have none left, others have.

        They are made together: the operators take as long for one.
        """
        space = cast(NumericSpace, state.context.space)  # it was checked at the start
        parents, standing = state.population or state.offspring, state.standing
        if not state.population or state.scalarisation is not None:  # whose weights may be drawn
            standing = places(parents, state.context.objectives, state.scalarisation, rng)
        widths = list(widening())
        pairs = binary_tournaments(standing, 2 * len(widths), rng).reshape(-1, 2)
        points = {i: space.vector(parents[i].trial.architecture) for i in set(pairs.ravel().tolist())}
        children, seconds = (np.array([points[i] for i in row]) for row in pairs.T.tolist())
        crosses = (rng.random(len(pairs)) < self.crossover) & (pairs[:, 0] != pairs[:, 1])
        lower, upper = space.bounds
        if crosses.any():
            children[crosses] = crossed(children[crosses], seconds[crosses], lower, upper, self.eta, rng)
        children = mutated(children, lower, upper, self.eta, self.mutation, rng)
        for changes, pair, child, two in zip(widths, pairs.tolist(), children, crosses.tolist(), strict=True):
            draft = changed(state.context.space, space.from_vector(child), changes - 1, rng)
            ids = tuple(parents[i].trial.id for i in pair[: 1 + two])
            yield Draw(draft, ids, "crossover+mutate" if two else "mutate")

    def proposed(self, state: State, trial: Trial) -> State:
        state.proposals += 1
        return state

    def told(self, state: State, trial: Trial, rng: np.random.Generator) -> State:
        state.offspring.append(Member.of(state.context, trial))
        due = self.population if not state.population or self.offspring is None else self.offspring
        if len(state.offspring) >= due:
            members = [*state.population, *state.offspring]
            standing = places(members, state.context.objectives, state.scalarisation, rng)
            state.population, state.offspring = best(members, self.population, standing), []
            state.standing = np.sort(standing)[: self.population]  # they are listed best first
        return state


def crossed(
    first: Floats, second: Floats, lower: Floats, upper: Floats, eta: float, rng: np.random.Generator
) -> Floats:
    """One of the two children of SBX of each pair of rows, bounded, each number crossed with probability 1/2.

    `first`, `second` and the children are `float64[n, d]`.
    """
    from pymoo.operators.crossover.sbx import cross_sbx

    n = len(first)
    children = cross_sbx(
        np.array([first, second]), lower, upper, np.full((n, 1), eta), prob_var=0.5,
        prob_bin=np.full((n, 1), 0.5), random_state=rng,
    )  # fmt: skip
    return np.asarray(children[rng.integers(2, size=n), np.arange(n)])


def mutated(
    x: Floats, lower: Floats, upper: Floats, eta: float, numbers: float, rng: np.random.Generator
) -> Floats:
    """Rows after polynomial mutation of so many of their numbers, on average; bounded (`float64[n, d]`)."""
    from pymoo.operators.mutation.pm import mut_pm

    rate = min(numbers / max(x.shape[1], 1), 1.0)
    return np.asarray(
        mut_pm(x, lower, upper, np.full(len(x), eta), np.full(len(x), rate), False, random_state=rng)
    )
