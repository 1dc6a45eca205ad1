"""pymoo's algorithms on codes as integer vectors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pymoo.algorithms.moo.moead import MOEAD
from pymoo.algorithms.moo.nsga2 import NSGA2
from pymoo.algorithms.moo.nsga3 import NSGA3
from pymoo.algorithms.moo.sms import SMSEMOA
from pymoo.core.duplicate import DuplicateElimination
from pymoo.core.evaluator import Evaluator
from pymoo.core.individual import Individual
from pymoo.core.population import Population
from pymoo.core.problem import Problem
from pymoo.core.termination import NoTermination
from pymoo.core.variable import Integer
from pymoo.operators.crossover.pntx import TwoPointCrossover
from pymoo.operators.crossover.sbx import SBX
from pymoo.operators.mutation.pm import PM
from pymoo.operators.mutation.rm import ChoiceRandomMutation
from pymoo.operators.repair.rounding import RoundingRepair
from pymoo.operators.sampling.rnd import IntegerRandomSampling
from pymoo.problems.static import StaticProblem

from bench.metrics import scaled
from bench.tables import Table
from nas.searchers.nsga3 import fitting_partitions, reference_directions

POPULATION = 20

Make = Callable[[int, DuplicateElimination], Any]
"""(number of objectives, what finds duplicates) -> a pymoo algorithm."""


class ByKey(DuplicateElimination):  # type: ignore[misc]
    """`func`: x -> key. Those of equal keys are duplicates."""

    def _do(self, pop: Any, other: Any, is_duplicate: Any) -> NDArray[np.bool_]:
        keys = [self.func(x) for x in pop.get("X")]
        if other is None:
            return np.array([key in keys[:i] for i, key in enumerate(keys)], dtype=bool)
        return np.isin(keys, [self.func(x) for x in other.get("X")])


class Pymoo:
    """Asks for a generation, or for one candidate, and tells it as a whole.

    pymoo is told losses that are min-max normalised over the whole table, which is more than ours know: its
    MOEA/D scales nothing, its NSGA-III has absolute constants.
    """

    def __init__(self, table: Table, seed: int, make: Make) -> None:
        self._places = table.places
        self._low, self._high = table.losses.min(axis=0), table.losses.max(axis=0)
        upper = np.array([len(place) - 1 for place in self._places])
        self._problem = Problem(n_var=len(upper), n_obj=len(table.objectives), xl=0, xu=upper, vtype=int)
        self._problem.vars = {i: Integer(bounds=(0, high)) for i, high in enumerate(upper)}
        keys = table.keys
        self._algorithm = make(len(table.objectives), ByKey(lambda x: keys[self._code(x)]))
        self._algorithm.setup(self._problem, termination=NoTermination(), seed=seed)
        self._asked: Population | Individual | None = None
        self._open: list[Individual] = []
        self._losses: list[NDArray[np.float64]] = []

    def _code(self, x: NDArray[Any]) -> str:
        return "".join(place[int(i)] for place, i in zip(self._places, x, strict=True))

    def ask(self) -> Individual | None:
        if not self._open:
            self._asked = self._algorithm.ask()
            if self._asked is None:
                return None
            self._open = list(self._asked) if isinstance(self._asked, Population) else [self._asked]
            self._losses = []
        return self._open[0]

    def code(self, candidate: Individual) -> str:
        return self._code(candidate.X)

    def tell(self, candidate: Individual, losses: NDArray[np.float64]) -> None:
        del self._open[0]
        self._losses.append(scaled(losses, self._low, self._high))
        if not self._open:
            Evaluator().eval(StaticProblem(self._problem, F=np.array(self._losses)), self._asked)
            self._algorithm.tell(infills=self._asked)


# --- settings ----------------------------------------------------------------------------------------

INTEGER = {"vtype": float, "repair": RoundingRepair()}  # integers through the operators for numbers
STEEP = {"prob": 1.0, "eta": 3.0}  # pymoo's documented example for integers


def _start(crossover: Any, mutation: Any) -> dict[str, Any]:
    return {"sampling": IntegerRandomSampling(), "crossover": crossover, "mutation": mutation}


def _points() -> dict[str, Any]:
    return _start(TwoPointCrossover(), ChoiceRandomMutation())


def _directions(objectives: int) -> NDArray[np.float64]:
    """As ours: as many as fit into the population."""
    return reference_directions(objectives, fitting_partitions(objectives, POPULATION))


def nsga2_point(objectives: int, unique: DuplicateElimination) -> Any:
    return NSGA2(pop_size=POPULATION, eliminate_duplicates=unique, **_points())


def nsga2_sbx(objectives: int, unique: DuplicateElimination) -> Any:
    operators = _start(SBX(**STEEP, **INTEGER), PM(**STEEP, **INTEGER))
    return NSGA2(pop_size=POPULATION, eliminate_duplicates=unique, **operators)


def nsga2_defaults(objectives: int, unique: DuplicateElimination) -> Any:
    operators = _start(SBX(prob=0.9, eta=15, **INTEGER), PM(eta=20, **INTEGER))
    return NSGA2(pop_size=POPULATION, eliminate_duplicates=unique, **operators)


def smsemoa(objectives: int, unique: DuplicateElimination) -> Any:
    return SMSEMOA(pop_size=POPULATION, eliminate_duplicates=unique, **_points())


def nsga3(objectives: int, unique: DuplicateElimination) -> Any:
    directions = _directions(objectives)
    return NSGA3(directions, pop_size=POPULATION, eliminate_duplicates=unique, **_points())


def moead(objectives: int, unique: DuplicateElimination) -> Any:
    """It removes no duplicates; its population is as large as its directions are many."""
    return MOEAD(_directions(objectives), **_points())
