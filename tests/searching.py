"""Searches without training: every searcher in small settings, and how a search is driven in tests."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from nas.protocols import Exhausted, Objective, Wait
from nas.search import Search
from nas.searchers import (
    BANANAS,
    GA,
    LEMONADE,
    MOBANANAS,
    MOEAD,
    NAO,
    NSGA2,
    NSGA3,
    PSO,
    SMSEMOA,
    BayesianOptimization,
    GeneticCNN,
    LargeScaleEvolution,
    LocalSearch,
    MSuNAS,
    RandomSearch,
    RegularizedEvolution,
    SimulatedAnnealing,
    SurrogateLocalSearch,
    SurrogateNSGA2,
    nemo,
    nsganet,
)
from nas.searchers.members import Member
from nas.searchers.scalars import Chebyshev, WeightedSum
from nas.surrogates import RBF
from nas.trial import Failure, Proposal, Trial
from search_spaces.chain import ChainSpace
from search_spaces.nasbench_macro import NASBenchMacroSpace
from search_spaces.template import TemplateSpace

MACRO = NASBenchMacroSpace()
QUICK = RBF(("linear",), (1e-3,))
"""A model that costs little."""

SEARCHERS: dict[str, Any] = {
    "random": RandomSearch(),
    "evolution": RegularizedEvolution(population=8, sample=6),
    "evolution, one": RegularizedEvolution(population=1, sample=1),
    "evolution, sample > population": RegularizedEvolution(population=3, sample=50),
    "evolution, scalarised": RegularizedEvolution(8, 6, {"kind": "weighted_exponential_sum"}),
    "large scale": LargeScaleEvolution(population=8),
    "large scale, two": LargeScaleEvolution(population=2),
    "large scale, population > space": LargeScaleEvolution(population=100),
    "large scale, scalarised": LargeScaleEvolution(8, Chebyshev()),
    "genetic": GeneticCNN(population=8),
    "genetic, odd": GeneticCNN(population=3, crossover=1.0),
    "genetic, nothing changes": GeneticCNN(population=4, crossover=0.0, mutation=0.0),
    "genetic, scalarised": GeneticCNN(8, scalarisation=WeightedSum()),
    "annealing": SimulatedAnnealing(steps=50),
    "annealing, sum": SimulatedAnnealing(initial=1, scalarisation=WeightedSum({})),
    "local": LocalSearch(),
    "local, one": LocalSearch(starts=1, draws=1),
    "nsga2": NSGA2(population=8),
    "nsga2, generations": NSGA2(population=6, offspring=None, crossover=1.0, mutation=0.3),
    "nsga2, one": NSGA2(population=1),
    "nsganet": nsganet(population=8, offspring=8),
    "nemo": nemo(population=8),
    "smsemoa": SMSEMOA(population=8),
    "smsemoa, one": SMSEMOA(population=1),
    "nsga3": NSGA3(population=8),
    "nsga3, generations": NSGA3(population=6, offspring=None, crossover=1.0, mutation=0.3),
    "nsga3, one": NSGA3(population=1),
    "moead": MOEAD(population=8, neighbours=3),
    "moead, one": MOEAD(population=1, neighbours=1),
    "moead, neighbours > population": MOEAD(population=6, neighbours=50, crossover=1.0, mutation=0.3),
    "nao": NAO(initial=8, new=24, pool=24, seeds=6, updates=3, hidden=8),
    "bayesian": BayesianOptimization(initial=4),
    "lemonade": LEMONADE(initial=4),
    "lemonade, one child": LEMONADE(initial=1, children=1),
    "bananas": BANANAS(initial=4, batch=4, candidates=12, model=QUICK),
    "mo bananas": MOBANANAS(initial=4, candidates=12, parents=6, model=QUICK),
    "msunas": MSuNAS(initial=4, batch=4, population=4, generations=2, model=QUICK),
    "surrogate nsga2": SurrogateNSGA2(initial=6, children=5, model=QUICK),
    "surrogate local": SurrogateLocalSearch(initial=6, neighbours=3, steps=3, model=QUICK),
    "ga": GA(population=8),
    "ga, one": GA(population=1),
    "ga, generations, scalarised": GA(6, None, crossover=1.0, mutation=0.0, scalarisation=WeightedSum()),
    "pso": PSO(population=8),
    "pso, one": PSO(population=1),
    "pso, scalarised": PSO(6, leaders=1, scalarisation={"kind": "chebyshev"}),
}

NUMERIC = (GA, PSO)
"""Searchers of numeric spaces only."""

PARAMS = Objective("params", exact=lambda a, s: s.cost(a).params)
OBJECTIVES: dict[int, tuple[Objective, ...]] = {
    1: (Objective("error"),),
    2: (Objective("error"), PARAMS),
    3: (Objective("error"), PARAMS, Objective("twos", maximize=True)),
    4: (
        Objective("error"),
        PARAMS,
        Objective("twos", maximize=True),
        Objective("macs", exact=lambda a, s: s.cost(a).macs),
    ),
}

Evaluate = Callable[[Trial], Mapping[str, float] | Failure]


def digits(trial: Trial) -> list[int]:
    """The code of a network of NAS-Bench-Macro."""
    return [int(digit) for digit in MACRO.code(trial.architecture)]


def measured(trial: Trial) -> dict[str, float]:
    """Deterministic, with ties."""
    return {
        "error": 100.0 - sum(i * d for i, d in enumerate(digits(trial))),
        "twos": float(digits(trial).count(2)),
    }


def make(searcher: Any, objectives: Any = OBJECTIVES[2], space: Any = MACRO, **options: Any) -> Search:
    given = {"seed": 0, "in_flight": 1, "identity": "network"} | options
    return Search(space, objectives, searcher, **given)


def tell(search: Search, trial: Trial, evaluate: Evaluate = measured) -> None:
    known = all(objective.exact is not None for objective in search.objectives)
    outcome: Any = {} if known else evaluate(trial)
    if not isinstance(outcome, Failure):
        outcome = {o.name: outcome[o.name] for o in search.objectives if o.exact is None}
    search.finish(trial.id, search.completed(trial, outcome))


def run(search: Search, trials: int, evaluate: Evaluate = measured) -> Exhausted | None:
    """Until there are so many trials, all told, or the end."""
    ended = None
    while len(search.trials) < trials:
        proposal = search.ask()
        if isinstance(proposal, Exhausted):
            ended = proposal
            break
        if isinstance(proposal, Wait):
            for trial_id in proposal.trials:
                tell(search, search.trials[trial_id], evaluate)
            continue
        search.propose(proposal)
    for trial in list(search.trials):
        if trial.outcome is None:
            tell(search, trial, evaluate)
    return ended


def small_chain(searcher: Any, depth: int, op: str, *widths: int) -> Any:
    """Chains of one op, repeated up to `depth` times; made of genes where numbers are needed."""
    if not isinstance(searcher, NUMERIC):
        return ChainSpace(
            (1, 4, 4), depth=(1, depth), ops=(op,), kernels=(3,), widths=widths, strides=0, skips=False
        )
    node = {"op": op, "width": {"choice": list(widths)}} | ({"kernel": 3} if op == "conv" else {})
    repeat = {"choice": list(range(1, depth + 1))}
    return TemplateSpace((1, 4, 4), nodes=[{"nodes": [node], "repeat": repeat}])


def proposals(search: Search) -> list[Proposal]:
    return [trial.proposal for trial in search.trials]


def member(i: int, losses: Any, violation: float = 0.0, rank: int = 0, crowding: float = 0.0) -> Member:
    """A told trial as the selection sees it."""
    trial = Trial(i, Proposal(MACRO.decode("0" * 8)))
    return Member(trial, np.asarray(losses, dtype=float), violation, rank, crowding)
