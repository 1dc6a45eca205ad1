"""All methods by name: ours, one line a searcher, and the rivals."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from importlib.util import find_spec
from typing import Any

from bench import optuna_rivals, pymoo_rivals
from bench.driving import STALL, Optimizer
from bench.ours import Own
from bench.tables import Table
from nas.protocols import Searcher
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
    Auto,
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
    nas_bowl,
    nemo,
    nsganet,
)
from nas.searchers.acquisitions import ACQUISITIONS

Start = Callable[[Table, int], Optimizer]
"""(table, seed) -> the method at work on it."""


@dataclass(frozen=True)
class Method:
    """How a method is started, and where it makes sense.

    Attributes:
        start: (table, seed) -> optimizer.
        several: True: with several objectives only; False: with one only.
        needs_cost: only where the table has a known cost.
        slow: run only if asked for.
        cap: the largest budget it is run to.
        stall: so many repeats in a row end it.
        needs: a module of the extra `rivals`.
        twins: rivals of the same algorithm, in several settings; the best of them is not to be better.
    """

    start: Start
    several: bool | None = None
    needs_cost: bool = False
    slow: bool = False
    cap: int | None = None
    stall: int = STALL
    needs: str = ""
    twins: tuple[str, ...] = ()

    def fits(self, table: Table) -> bool:
        """Whether the method can be run on this table."""
        several = len(table.objectives) > 1
        return self.several in (None, several) and not (self.needs_cost and not table.benchmark.exact)

    def missing(self) -> str:
        """What has to be installed for it, "" if nothing."""
        return "" if not self.needs or find_spec(self.needs) else self.needs


def ours(
    name: str, searcher: Searcher[Any], *, knows_cost: bool = False, **settings: Any
) -> dict[str, Method]:
    """A searcher told all values; one that makes use of exact objectives also as "…, cost known"."""
    plain = Method(partial(Own, searcher=searcher, cost_known=False), **settings)
    if not knows_cost:
        return {name: plain}
    knowing = replace(
        plain, start=partial(Own, searcher=searcher, cost_known=True), needs_cost=True, twins=()
    )
    return {name: plain, f"{name}, cost known": knowing}


def _pymoo(make: pymoo_rivals.Make, **settings: Any) -> Method:
    return Method(partial(pymoo_rivals.Pymoo, make=make), **settings)


def _optuna(sampler: Callable[[int], Any], **settings: Any) -> Method:
    return Method(partial(optuna_rivals.Optuna, sampler=sampler), **settings)


def _botorch(log_error: bool, several: bool) -> Method:
    def start(table: Table, seed: int) -> Optimizer:
        from bench.botorch_rivals import BoTorch  # torch, and an extra

        return BoTorch(table, seed, log_error)

    return Method(start, several=several, slow=True, cap=100, needs="botorch")


def _acquisitions() -> dict[str, Method]:
    """Bayesian optimisation by each acquisition but that of `Auto`."""
    found: dict[str, Method] = {}
    for name, acquisition in ACQUISITIONS.items():
        if name != BayesianOptimization().acquisition:
            searcher, title = BayesianOptimization(acquisition=name), f"BayesianOptimization-{name}"
            if acquisition.single:
                found |= ours(title, searcher, several=False, slow=True, cap=200)
            else:
                found |= ours(title, searcher, knows_cost=True, slow=True, cap=200)
    return found


PYMOO_NSGA2 = ("pymoo-NSGA2-point", "pymoo-NSGA2-SBX", "pymoo-NSGA2-defaults")
RANDOM = "RandomSearch"

# A searcher of ours is one line here; settings: slow=True, cap=200 …
OURS: Mapping[str, Method] = {
    **ours("NSGA2", NSGA2(population=20), twins=PYMOO_NSGA2),
    **ours("NSGA2-generational", NSGA2(population=20, offspring=None)),
    **ours("nsganet", nsganet(population=20, offspring=20)),
    **ours("nemo", nemo(population=20)),
    **ours("SMSEMOA", SMSEMOA(population=20), twins=("pymoo-SMSEMOA",)),
    **ours("NSGA3", NSGA3(population=20), twins=("pymoo-NSGA3",)),
    **ours("MOEAD", MOEAD(population=20), twins=("pymoo-MOEAD",)),
    **ours("LocalSearch", LocalSearch(), knows_cost=True),
    **ours("LEMONADE", LEMONADE(), knows_cost=True),
    **ours("BANANAS", BANANAS(), knows_cost=True, cap=200),
    **ours("MOBANANAS", MOBANANAS(), knows_cost=True, cap=200),
    **ours("MSuNAS", MSuNAS(), knows_cost=True, cap=200),
    **ours("SurrogateNSGA2", SurrogateNSGA2(), knows_cost=True, cap=200),
    **ours("SurrogateLocalSearch", SurrogateLocalSearch(), knows_cost=True, cap=200),
    **ours("RegularizedEvolution", RegularizedEvolution(population=20, sample=5)),
    **ours("LargeScaleEvolution", LargeScaleEvolution(population=20)),
    **ours("GeneticCNN", GeneticCNN(population=20)),
    **ours("SimulatedAnnealing", SimulatedAnnealing()),
    **ours("NAO", NAO(), slow=True, cap=200),
    **ours("GA", GA(population=20)),
    **ours("PSO", PSO(population=20)),
    **ours("Auto", Auto(), knows_cost=True),
    **ours("nas_bowl", nas_bowl(), knows_cost=True),
    **ours("BayesianOptimization-written", BayesianOptimization(blocks=("written",)), knows_cost=True),
    **_acquisitions(),
    **ours(RANDOM, RandomSearch()),
}
RIVALS: Mapping[str, Method] = {
    "pymoo-NSGA2-point": _pymoo(pymoo_rivals.nsga2_point),
    "pymoo-NSGA2-SBX": _pymoo(pymoo_rivals.nsga2_sbx),
    "pymoo-NSGA2-defaults": _pymoo(pymoo_rivals.nsga2_defaults),
    "pymoo-SMSEMOA": _pymoo(pymoo_rivals.smsemoa, several=True),
    "pymoo-NSGA3": _pymoo(pymoo_rivals.nsga3, several=True),
    "pymoo-MOEAD": _pymoo(pymoo_rivals.moead, several=True),
    "Optuna-NSGA2": _optuna(optuna_rivals.nsga2),
    "Optuna-TPE": _optuna(optuna_rivals.tpe, stall=200, cap=200),
    "Optuna-GP": _optuna(optuna_rivals.gp, stall=50, slow=True, cap=100),
    "BoTorch-qLogNEHVI": _botorch(log_error=False, several=True),
    "BoTorch-qLogNEHVI-log": _botorch(log_error=True, several=True),
    "BoTorch-qLogNEI": _botorch(log_error=False, several=False),
    "BoTorch-qLogNEI-log": _botorch(log_error=True, several=False),
}
METHODS: dict[str, Method] = {**OURS, **RIVALS}
