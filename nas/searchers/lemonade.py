"""LEMONADE (Elsken, Metzen & Hutter 2019, "Efficient Multi-objective Neural Architecture Search via
Lamarckian Evolution"), without its generations."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from nas.architecture import Architecture
from nas.protocols import Context, Exhausted
from nas.searchers.draws import Draw, mutant, widening
from nas.searchers.members import Member
from nas.searchers.novelty import first_allowed, first_new
from nas.searchers.selection import survivors
from nas.trial import Proposal, Trial

Floats = NDArray[np.float64]


@dataclass(slots=True)
class State:
    """`population` is the Pareto front of all that was told, in the order of the trials."""

    context: Context
    population: list[Member] = field(default_factory=list)
    proposals: int = 0


@dataclass(frozen=True)
class LEMONADE:
    """Sparse regions of the front's cheap objectives are searched first; weights come from the parent.

    The cheap objectives are those that are exact. With p a kernel density of their values over the
    population, which is the Pareto front of all that was told (algorithm 1): a parent is drawn with
    probability proportional to 1 / p; so many children are proposed, each a mutation of a parent of its own;
    and of these one is accepted with probability proportional to 1 / p, under the same p, before anything is
    trained. The paper accepts n_ac of n_pc children a generation; here each ask accepts one: nothing waits.

    Where no objective is exact there is nothing cheap to be sparse in: parents are drawn uniformly from the
    front and their first child is accepted.

    Attributes:
        initial: random architectures before the first child.
        children: proposed for each one that is accepted, n_pc / n_ac.

    Raises:
        ValueError: `1 <= initial` or `1 <= children` does not hold.
    """

    initial: int = 10
    children: int = 2

    def __post_init__(self) -> None:
        if self.initial < 1 or self.children < 1:
            raise ValueError(
                f"`1 <= initial` and `1 <= children` must hold, but got ({self.initial=}, {self.children=})"
            )

    def init(self, context: Context) -> State:
        return State(context)

    def ask(self, state: State, rng: np.random.Generator) -> Proposal | Exhausted:
        context, parents = state.context, state.population
        if state.proposals < self.initial or not parents:
            return first_new(context, rng)
        known = cheap(context, [m.trial.architecture for m in parents])
        chances = inverse_density(known, known)
        proposed = (
            first_allowed(context, _mutations(context, parents, chances, rng))
            for _ in range(self.children if known.shape[1] else 1)
        )
        children = [child for child in proposed if child is not None]
        if not children:
            return first_new(context, rng)
        places = cheap(context, [child.architecture for child in children])
        return children[rng.choice(len(children), p=inverse_density(known, places))]

    def proposed(self, state: State, trial: Trial) -> State:
        state.proposals += 1
        return state

    def told(self, state: State, trial: Trial, rng: np.random.Generator) -> State:
        members = [*state.population, Member.of(state.context, trial)]
        ranked = survivors(members, len(members))  # if none is feasible, the least violation is first
        state.population = sorted((m for m in ranked if m.rank == ranked[0].rank), key=lambda m: m.trial.id)
        return state


def _mutations(
    context: Context, parents: list[Member], chances: Floats, rng: np.random.Generator
) -> Iterator[Draw]:
    """Mutations, each of a parent drawn anew: where one has none left, another has."""
    for changes in widening():
        parent = parents[rng.choice(len(parents), p=chances)].trial
        yield mutant(context.space, parent, changes, rng)


def cheap(context: Context, architectures: Sequence[Architecture]) -> Floats:
    """Values of the exact objectives, `float64[n, d]`; d is 0 where there are none."""
    return np.array([list(context.exact(arch).values()) for arch in architectures], dtype=np.float64)


def inverse_density(known: Floats, places: Floats) -> Floats:
    """Probabilities of `places` (`float64[n, d]`) in proportion to 1 / density of `known` (`float64[k, d]`).

    Equations 1 and 2 of the paper. The density is a sum of Gaussians, with Scott's bandwidth k^(-1 / (d + 4))
    in units of each objective's standard deviation. An objective that is constant over the known says nothing
    and is left out, so the result is uniform where all are.
    """
    if len(known) < 2 or not known.shape[1]:
        return np.full(len(places), 1 / len(places))
    deviation = known.std(axis=0, ddof=1)
    varies = deviation > 1e-12 * np.abs(known).max(axis=0)
    bandwidth = len(known) ** (-1 / (varies.sum() + 4)) * deviation[varies]
    away = (places[:, None, varies] - known[None, :, varies]) / bandwidth
    exponents = -0.5 * (away**2).sum(axis=2)
    highest = exponents.max(axis=1)
    log_density = highest + np.log(np.exp(exponents - highest[:, None]).sum(axis=1))
    chances = np.exp(log_density.min() - log_density)  # of the sparsest place: 1
    return np.asarray(chances / chances.sum())
