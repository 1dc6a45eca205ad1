"""Compares searchers on a real table, pymoo's beside ours in the same run.

    python scripts/bench_search.py --seeds 20 --out runs/bench_search    # run again: only what is missing
    python scripts/bench_search.py --cost                                # own CPU time a trial of ours

A budget counts different candidates evaluated; look-ups of repeats cost nothing. gap = (1 - HV ratio) x 1000:
hypervolume of what was found over that of the table's true front, objectives min-max normalised over the
whole table, reference (1, 1). Results: results.csv and results.html in the folder --out.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from hashlib import blake2b
from itertools import islice, product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray
from pymoo.algorithms.moo import nsga2 as pymoo
from pymoo.core.duplicate import DuplicateElimination
from pymoo.core.evaluator import Evaluator
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

from nas import Architecture, Objective, Study, pareto
from nas.protocols import Identity, Searcher
from nas.searchers import (
    LEMONADE,
    MOEAD,
    NSGA2,
    NSGA3,
    SMSEMOA,
    GeneticCNN,
    LargeScaleEvolution,
    LocalSearch,
    RandomSearch,
    RegularizedEvolution,
    SimulatedAnnealing,
)
from nas.trial import Trial
from search_spaces.nasbench201 import NASBench201Space
from search_spaces.nasbench_macro import NASBenchMacroSpace

# --- tables ----------------------------------------------------------------------------------------

Values = Mapping[str, float]
Means = dict[str, dict[int, tuple[float, float]]]  # method -> budget -> gap and its standard error


def read_macro(path: Path) -> dict[str, Values]:
    rows = json.loads(gzip.decompress(path.read_bytes()))
    return {code: {"error": 100 - row["mean_acc"], "flops": row["flops"]} for code, row in rows.items()}


def read_nasbench201(path: Path, second: str) -> dict[str, Values]:
    """Error on CIFAR-10 after 200 epochs, and a column of the same table or of the one of latencies."""
    with gzip.open(path, "rt") as file:
        rows = list(csv.DictReader(file))
    others = {row["index"]: row for row in rows}
    if second not in rows[0]:
        with gzip.open(path.with_name("nasbench201_latency.csv.gz"), "rt") as file:
            others = {row["index"]: row for row in csv.DictReader(file)}
    return {
        row["arch"]: {"error": 100 - float(row["c10_test_200"]), second: float(others[row["index"]][second])}
        for row in rows
    }


@dataclass(frozen=True)
class Benchmark:
    """How a table is read: code -> objective name -> value, minimised.

    `exact` computes what is known without training: for --cost, and for the methods named "… cost known".
    """

    name: str
    file: str
    read: Callable[[Path], dict[str, Values]]
    space: Callable[[], Any]  # with decode(code) and code(arch)
    identity: Identity = "network"
    exact: Mapping[str, Callable[[Architecture, Any], float]] = field(default_factory=dict)


BENCHMARKS = {
    "macro": Benchmark(
        "nasbench_macro",
        "nasbench_macro.json.gz",
        read_macro,
        NASBenchMacroSpace,
        exact={"flops": lambda arch, space: space.cost(arch).macs},  # the table's flops are MACs
    ),
    "nasbench201-pixel3": Benchmark(
        "nasbench201_pixel3",
        "nasbench201.csv.gz",
        partial(read_nasbench201, second="pixel3"),
        NASBench201Space,
        "written",
    ),
    "nasbench201-params": Benchmark(
        "nasbench201_params",
        "nasbench201.csv.gz",
        partial(read_nasbench201, second="params_c10"),
        NASBench201Space,
        "written",
        exact={"params_c10": lambda arch, space: space.cost(arch).params},
    ),
}


class Table:
    """All candidates with their values; `key` tells what makes two of them the same."""

    def __init__(self, benchmark: Benchmark, path: Path) -> None:
        content = blake2b(path.read_bytes(), digest_size=4).hexdigest()
        self.name = f"{benchmark.name}-{content}"
        self.benchmark = benchmark
        self.rows = benchmark.read(path)
        self.space = benchmark.space()
        self.objectives = tuple(next(iter(self.rows.values())))
        losses = np.array([list(row.values()) for row in self.rows.values()], dtype=np.float64)
        low, high = losses.min(axis=0), losses.max(axis=0)
        scaled = (losses - low) / np.where(high > low, high - low, 1.0)
        self._scaled = dict(zip(self.rows, scaled, strict=True))
        self._whole = pareto.hypervolume(scaled, np.ones(len(self.objectives)))
        self.key = cache(self._key)

    def _key(self, code: str) -> str:
        arch = self.space.decode(code)
        return str((self.space.canonical(arch) if self.benchmark.identity == "network" else arch).key)

    def gap(self, codes: Sequence[str]) -> float:
        found = np.array([self._scaled[code] for code in codes])
        return 1000 * (1 - pareto.hypervolume(found, np.ones(len(self.objectives))) / self._whole)

    def study(self, searcher: Searcher[Any], seed: int, exact: Mapping[str, Any]) -> Study:
        objectives = [Objective(name, exact=exact.get(name)) for name in self.objectives]
        return Study.in_memory(self.space, objectives, searcher, seed, identity=self.benchmark.identity)


# --- methods: (table, seed) -> codes of different candidates in the order of their evaluation ----------

Method = Callable[[Table, int], Iterator[str]]
GENERATIONS = 4000  # an end for optimizers that stall on what they know


def ours(searcher: Searcher[Any], cost_known: bool = False) -> Method:
    """A searcher of ours, told all values; or, like a study, all that its exact objectives do not know."""

    def run(table: Table, seed: int) -> Iterator[str]:
        exact = table.benchmark.exact if cost_known else {}
        study = table.study(searcher, seed, exact)
        while isinstance(trial := study.ask(), Trial):
            code = table.space.code(trial.architecture)
            study.tell(trial, {name: v for name, v in table.rows[code].items() if name not in exact})
            yield code

    return run


class ByKey(DuplicateElimination):  # type: ignore[misc]
    def _do(self, pop: Any, other: Any, is_duplicate: Any) -> NDArray[np.bool_]:
        keys = [self.func(x) for x in pop.get("X")]
        if other is None:
            return np.array([key in keys[:i] for i, key in enumerate(keys)], dtype=bool)
        return np.isin(keys, [self.func(x) for x in other.get("X")])


def theirs(**settings: Any) -> Method:
    """pymoo's NSGA-II on codes as integer vectors; a candidate met again has its first value."""

    def run(table: Table, seed: int) -> Iterator[str]:
        places = [sorted(set(place)) for place in zip(*table.rows, strict=True)]
        upper = np.array([len(place) - 1 for place in places])
        problem = Problem(n_var=len(upper), n_obj=len(table.objectives), xl=0, xu=upper, vtype=int)
        problem.vars = {i: Integer(bounds=(0, high)) for i, high in enumerate(upper)}

        def code_of(x: Sequence[int]) -> str:
            return "".join(place[int(i)] for place, i in zip(places, x, strict=True))

        unique = ByKey(lambda x: table.key(code_of(x)))
        algorithm = pymoo.NSGA2(sampling=IntegerRandomSampling(), eliminate_duplicates=unique, **settings)
        algorithm.setup(problem, termination=NoTermination(), seed=seed)
        first: dict[str, str] = {}
        for _ in range(GENERATIONS):
            if (asked := algorithm.ask()) is None:
                return
            codes = [code_of(x) for x in asked.get("X")]
            for code in codes:
                if table.key(code) not in first:
                    first[table.key(code)] = code
                    yield code
            losses = [list(table.rows[first[table.key(code)]].values()) for code in codes]
            Evaluator().eval(StaticProblem(problem, F=np.array(losses)), asked)
            algorithm.tell(infills=asked)

    return run


SEARCHERS: dict[str, Searcher[Any]] = {
    "NSGA2": NSGA2(population=20),
    "NSGA2-generational": NSGA2(population=20, offspring=None),
    "SMSEMOA": SMSEMOA(population=20),
    "NSGA3": NSGA3(population=20),
    "MOEAD": MOEAD(population=20),
    "LocalSearch": LocalSearch(),
    "RegularizedEvolution": RegularizedEvolution(population=20, sample=5),
    "LargeScaleEvolution": LargeScaleEvolution(population=20),
    "GeneticCNN": GeneticCNN(population=20),
    "SimulatedAnnealing": SimulatedAnnealing(),
    "RandomSearch": RandomSearch(),
}
KNOWING: dict[str, Searcher[Any]] = {"LocalSearch": LocalSearch(), "LEMONADE": LEMONADE()}
"""Searchers that make use of exact objectives."""
INTEGER = {"vtype": float, "repair": RoundingRepair()}  # integers through the operators for numbers
STEEP = {"prob": 1.0, "eta": 3.0}  # pymoo's documented example for integers
METHODS: dict[str, Method] = {
    **{name: ours(searcher) for name, searcher in SEARCHERS.items()},
    **{f"{name}, cost known": ours(searcher, cost_known=True) for name, searcher in KNOWING.items()},
    "pymoo-NSGA2-point": theirs(pop_size=20, crossover=TwoPointCrossover(), mutation=ChoiceRandomMutation()),
    "pymoo-NSGA2-SBX": theirs(
        pop_size=20, crossover=SBX(**STEEP, **INTEGER), mutation=PM(**STEEP, **INTEGER)
    ),
    "pymoo-NSGA2-defaults": theirs(
        pop_size=20, crossover=SBX(prob=0.9, eta=15, **INTEGER), mutation=PM(eta=20, **INTEGER)
    ),
}


class Row(NamedTuple):
    table: str
    method: str
    seed: int
    budget: int
    evaluated: int  # less than the budget if the method ended early
    gap: float


def compare(table: Table, methods: list[str], seeds: int, budgets: list[int], path: Path) -> list[Row]:
    """The rows asked for; those that are not in the file yet are run and added to it."""
    lines = list(csv.reader(path.read_text().splitlines()))[1:] if path.exists() else []
    rows = [Row(t, m, int(seed), int(b), int(n), float(gap)) for t, m, seed, b, n, gap in lines]
    known = {row[:4]: row for row in rows}
    for seed, method in product(range(seeds), methods):
        missing = [b for b in budgets if (table.name, method, seed, b) not in known]
        if missing:
            print(f"seed {seed}: {method}", file=sys.stderr)
            codes = list(islice(METHODS[method](table, seed), missing[-1]))
            for b in missing:
                row = Row(table.name, method, seed, b, len(codes[:b]), round(table.gap(codes[:b]), 6))
                known[row[:4]] = row
            partial = path.with_suffix(".partial")  # a killed run leaves a whole file
            with partial.open("w", newline="") as file:
                csv.writer(file, lineterminator="\n").writerows([Row._fields, *known.values()])
            partial.replace(path)
    return [known[table.name, m, seed, b] for m in methods for b in budgets for seed in range(seeds)]


def summary(rows: Sequence[Row]) -> Means:
    """Method -> budget -> mean gap and its standard error, NaN for a single seed."""
    means: Means = {}
    for method, budget in dict.fromkeys((row.method, row.budget) for row in rows):
        gaps = [row.gap for row in rows if (row.method, row.budget) == (method, budget)]
        error = statistics.stdev(gaps) / len(gaps) ** 0.5 if len(gaps) > 1 else float("nan")
        means.setdefault(method, {})[budget] = (statistics.fmean(gaps), error)
    return means


def print_summary(means: Means, seeds: int) -> None:
    print(f"gap = (1 - HV ratio) x 1000, mean ± standard error over {seeds} seeds")
    print(f"{'candidates evaluated':<24}" + "".join(f"{b:>18}" for b in next(iter(means.values()))))
    for method, found in means.items():
        print(f"{method:<24}" + "".join(f"{f'{mean:.2f} ± {sem:.2f}':>18}" for mean, sem in found.values()))


def write_plot(means: Means, title: str, path: Path) -> None:
    figure = go.Figure(layout={"title": title, "template": "plotly_white"})
    for method, found in means.items():
        heights, errors = zip(*found.values(), strict=True)
        figure.add_scatter(x=list(found), y=heights, name=method, error_y={"array": errors})
    figure.update_xaxes(title="candidates evaluated", type="log", tickvals=list(next(iter(means.values()))))
    figure.update_yaxes(title="(1 - HV ratio) x 1000", type="log")
    figure.write_html(path, include_plotlyjs=True)


def own_cost(table: Table, searcher: Searcher[Any], trials: int, seed: int) -> list[float]:
    """CPU ms of `ask` and `tell` for each trial, exact objectives included, the table's look-up left out."""
    exact, spent = table.benchmark.exact, []
    study = table.study(searcher, seed, exact)
    for _ in range(trials):
        start = time.process_time()
        trial = study.ask()
        asked = time.process_time() - start
        if not isinstance(trial, Trial):
            break
        row = table.rows[table.space.code(trial.architecture)]
        told = {name: value for name, value in row.items() if name not in exact}
        start = time.process_time()
        study.tell(trial, told)
        spent.append(1000 * (asked + time.process_time() - start))
    return spent


def print_cost(table: Table, methods: Sequence[str], repeats: int = 5) -> None:
    print(f"own CPU ms a trial: ask, tell and exact objectives, no look-ups; median of {repeats} repeats")
    print(f"{'trials':<24}{'0-800':>10}{'100-200':>10}{'700-800':>10}{'ratio':>10}")
    for method in [method for method in methods if method in SEARCHERS]:
        runs = [np.array(own_cost(table, SEARCHERS[method], 800, seed)) for seed in range(repeats)]
        windows = [(run.mean(), run[100:200].mean(), run[700:].mean()) for run in runs]
        figures = [(*window, window[2] / window[1]) for window in windows]
        print(f"{method:<24}" + "".join(f"{figure:>10.3f}" for figure in np.median(figures, axis=0)))


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--benchmark", choices=BENCHMARKS, default="macro")
    parser.add_argument("--table", type=Path, help="the benchmark's file; default: the one in $NAS_DATA")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--budgets", type=int, nargs="+", default=[50, 100, 200, 400])
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS), metavar="METHOD")
    parser.add_argument("--out", type=Path, default=Path("runs/bench_search"))
    parser.add_argument("--cost", action="store_true", help="measure our own CPU time a trial instead")
    chosen = parser.parse_args(argv)
    budgets = sorted(set(chosen.budgets))
    if chosen.seeds < 1 or budgets[0] < 1:
        parser.error("`seeds >= 1` and `budgets >= 1` must hold")
    benchmark = BENCHMARKS[chosen.benchmark]
    path = chosen.table or Path(os.environ.get("NAS_DATA", "")) / benchmark.file
    if not path.is_file():
        parser.error(f"no table at {path}: set NAS_DATA to the folder of the tables, or pass --table PATH")
    table = Table(benchmark, path)
    if chosen.cost:
        print_cost(table, chosen.methods)
        return
    chosen.out.mkdir(parents=True, exist_ok=True)
    means = summary(compare(table, chosen.methods, chosen.seeds, budgets, chosen.out / "results.csv"))
    print_summary(means, chosen.seeds)
    write_plot(means, f"{table.name}: {', '.join(table.objectives)}", chosen.out / "results.html")
    print(f"written: results.csv and results.html in {chosen.out}")


if __name__ == "__main__":
    main()
