"""Wrong settings of searchers are refused when they are made, in words that say what must hold."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

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
    RegularizedEvolution,
    SimulatedAnnealing,
    SurrogateLocalSearch,
    SurrogateNSGA2,
    nemo,
    nsganet,
)


@pytest.mark.parametrize(
    ("make_it", "message"),
    [
        (lambda: NSGA2(population=0), "`1 <= population`"),
        (lambda: NSGA2(offspring=0), "`1 <= offspring`"),
        (lambda: NSGA2(crossover=1.5), "crossover"),
        (lambda: NSGA2(mutation=float("nan")), "mutation"),
        (lambda: NSGA2(tournament="crowding"), r"tournament must be one of \['rank', 'dominance'\], but"),  # type: ignore[arg-type]
        (lambda: nsganet(offspring=0), "`1 <= offspring`"),
        (lambda: nemo(crossover=-1), "`0 <= crossover, mutation <= 1`"),
        (lambda: RegularizedEvolution(population=0), "`1 <= population`"),
        (lambda: RegularizedEvolution(sample=0), "`1 <= sample`"),
        (lambda: LocalSearch(starts=0), r"`1 <= starts` and `1 <= draws` must hold, but got \(self.starts=0"),
        (lambda: LocalSearch(draws=0), "`1 <= draws`"),
        (lambda: SimulatedAnnealing(initial=0), "`1 <= initial`"),
        (lambda: SimulatedAnnealing(steps=0), "`1 <= steps`"),
        (lambda: SimulatedAnnealing(hottest=0.1, coldest=0.2), "`0 < coldest <= hottest`"),
        (lambda: SimulatedAnnealing(coldest=float("nan")), "`0 < coldest <= hottest`"),
        (lambda: LargeScaleEvolution(1), "`population >= 2` must hold, but got population=1"),
        (lambda: GeneticCNN(1), "`population >= 2` must hold, but got population=1"),
        (lambda: GeneticCNN(crossover=1.5), "`0 <= crossover, mutation <= 1`"),
        (lambda: GeneticCNN(mutation=float("nan")), "`0 <= crossover, mutation <= 1`"),
        (lambda: SMSEMOA(population=0), "`1 <= population`"),
        (lambda: SMSEMOA(crossover=-0.1), "crossover"),
        (lambda: SMSEMOA(mutation=float("nan")), "mutation"),
        (lambda: NSGA3(population=0), "`1 <= population`"),
        (lambda: NSGA3(offspring=0), "`1 <= offspring`"),
        (lambda: NSGA3(partitions=0), "`1 <= partitions`"),
        (lambda: MOEAD(population=0), "`1 <= population` and `1 <= neighbours`"),
        (lambda: MOEAD(neighbours=0), "`1 <= population` and `1 <= neighbours`"),
        (lambda: MOEAD(crossover=1.5), "crossover"),
        (lambda: MOEAD(mutation=float("nan")), "mutation"),
        (lambda: GA(population=0), "`1 <= population`"),
        (lambda: GA(offspring=0), "`1 <= offspring`"),
        (lambda: GA(crossover=1.5), "crossover"),
        (lambda: GA(mutation=-0.1), "`mutation >= 0` and `0 < eta < inf` must hold, but got"),
        (lambda: GA(mutation=float("nan")), "`mutation >= 0`"),
        (lambda: GA(eta=0), "`0 < eta < inf`"),
        (lambda: GA(scalarisation={"kind": "sum"}), "scalarisation.kind must be one of"),
        (lambda: PSO(population=0), "`1 <= population` and `1 <= leaders`"),
        (lambda: PSO(leaders=0), "`1 <= population` and `1 <= leaders`"),
        (lambda: PSO(inertia=-1), "`0 <= inertia, cognitive, social < inf`"),
        (lambda: PSO(social=float("nan")), "`0 <= inertia, cognitive, social < inf`"),
        (lambda: PSO(speed=0), "`0 < speed <= 1`"),
        (lambda: PSO(scalarisation={"kind": "sum"}), "scalarisation.kind must be one of"),
        (lambda: LEMONADE(initial=0), "`1 <= initial` and `1 <= children` must hold, but got"),
        (lambda: LEMONADE(children=-3), "`1 <= initial` and `1 <= children` must hold, but got"),
        (lambda: BANANAS(initial=0), "`1 <= initial, batch, candidates, parents` must hold, but got"),
        (lambda: BANANAS(model="forrest"), "model must be one of best, boosted, .*, but got 'forrest'"),
        (lambda: MOBANANAS(batch=0), "`1 <= initial, batch, candidates, parents` must hold, but got"),
        (lambda: MOBANANAS(model=""), "model must be one of"),
        (lambda: MSuNAS(generations=0), "`1 <= initial, batch, population, generations` must hold"),
        (lambda: MSuNAS(crossover=2.0), "`0 <= crossover, mutation <= 1` must hold"),
        (lambda: MSuNAS(model="gp?"), "model must be one of"),
        (lambda: SurrogateNSGA2(children=0), "`1 <= initial, population, children` must hold"),
        (lambda: SurrogateNSGA2(mutation=float("nan")), "`0 <= crossover, mutation <= 1` must hold"),
        (lambda: SurrogateNSGA2(model="x"), "model must be one of"),
        (lambda: SurrogateLocalSearch(steps=0), "`1 <= initial, starts, neighbours, steps` must hold"),
        (lambda: SurrogateLocalSearch(model=None), "model must be a name or have `fit`"),  # type: ignore[arg-type]
        (lambda: BayesianOptimization(initial=1), "`2 <= initial` and `1 <= samples` must hold, but got"),
        (lambda: BayesianOptimization(samples=0), "`2 <= initial` and `1 <= samples` must hold, but got"),
        (lambda: BayesianOptimization(blocks=("flops",)), "blocks must be some of written, params"),
        (lambda: BayesianOptimization(blocks=()), "blocks must be some of written, params"),
        (lambda: NAO(initial=0), "`1 <= initial, new, pool, seeds, updates, hidden` must hold, but got"),
        (lambda: NAO(hidden=0), "self.hidden=0"),
        (lambda: NAO(learning_rate=float("nan")), "`0 < learning_rate, trade_off < 1` must hold, but got"),
        (lambda: NAO(trade_off=1.0), "self.trade_off=1.0"),
        (lambda: NAO(scalarisation={"kind": "sum"}), "scalarisation.kind must be one of"),
        (lambda: RegularizedEvolution(scalarisation={"kind": "sum"}), "scalarisation.kind must be one of"),
        (lambda: SimulatedAnnealing(scalarisation={}), "scalarisation.kind must be one of"),
        (lambda: GeneticCNN(scalarisation={"kind": "chebyshev", "rho": -1}), "`0 <= rho < inf`"),
        (lambda: LargeScaleEvolution(scalarisation=3), "must be a table with a kind"),  # type: ignore[arg-type]
    ],
)
def test_wrong_settings_are_refused(make_it: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_it()
