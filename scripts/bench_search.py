"""Compares searchers on a real table, pymoo's beside ours in the same run.

    python scripts/bench_search.py --seeds 20 --out runs/bench_search        # again: runs what is missing
    python scripts/bench_search.py --cost                                     # own CPU time a trial of ours

A budget counts different candidates evaluated; cheap look-ups and repeats cost nothing. gap = (1 - HV
ratio) x 1000: hypervolume of what was found over that of the table's true front, objectives min-max
normalised over the whole table, reference (1, 1). Results: results.csv and results.html in the --out folder.
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
from functools import cached_property
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nas import Architecture, Objective, Study, pareto
from nas.protocols import Identity, Searcher
from nas.searchers import NSGA2, RandomSearch, RegularizedEvolution
from nas.trial import Trial
from search_spaces.nasbench_macro import NASBenchMacroSpace

Values = Mapping[str, float]
COLUMNS = ("table", "method", "seed", "budget", "evaluated", "gap")
Row = dict[str, Any]

# --- tables ----------------------------------------------------------------------------------------


def read_macro(path: Path) -> dict[str, Values]:
    with gzip.open(path, "rt") as file:
        rows = json.load(file)
    return {code: {"error": 100 - row["mean_acc"], "flops": row["flops"]} for code, row in rows.items()}


@dataclass(frozen=True)
class Benchmark:
    """Where a table is and how it is read: `read` gives code -> objective name -> value, minimised.

    `exact` are the objectives that --cost computes from the architecture, as a study would.
    """

    file: str
    read: Callable[[Path], dict[str, Values]]
    space: Callable[[], Any]  # with decode(code) and code(arch)
    identity: Identity = "network"
    exact: Mapping[str, Callable[[Architecture, Any], float]] = field(default_factory=dict)


BENCHMARKS = {
    "macro": Benchmark(
        "nasbench_macro.json.gz",
        read_macro,
        NASBenchMacroSpace,
        exact={"flops": lambda arch, space: space.cost(arch).flops},
    ),
}


class Table:
    """All candidates with their values, and what share of the true front's hypervolume a set of them has."""

    def __init__(self, name: str, path: Path) -> None:
        self.benchmark = BENCHMARKS[name]
        self.name = f"{name}-{blake2b(path.read_bytes(), digest_size=4).hexdigest()}"
        self.rows = self.benchmark.read(path)
        self.space = self.benchmark.space()
        self.objectives = tuple(next(iter(self.rows.values())))
        values = np.array([[row[name] for name in self.objectives] for row in self.rows.values()])
        low, high = values.min(axis=0), values.max(axis=0)
        scaled = (values - low) / np.where(high > low, high - low, 1.0)
        self.losses = dict(zip(self.rows, scaled, strict=True))
        self._whole = self._hypervolume(scaled)
        self._keys: dict[str, str] = {}

    def key(self, code: str) -> str:
        """What makes two candidates the same."""
        if code not in self._keys:
            arch = self.space.decode(code)
            same = self.space.canonical(arch) if self.benchmark.identity == "network" else arch
            self._keys[code] = same.key
        return self._keys[code]

    @cached_property
    def alphabets(self) -> list[list[str]]:
        """The characters at each place of a code, for optimizers of integer vectors."""
        return [sorted(set(place)) for place in zip(*self.rows, strict=True)]

    def gap(self, codes: Sequence[str]) -> float:
        found = np.array([self.losses[code] for code in codes])
        return 1000 * (1 - self._hypervolume(found) / self._whole)

    def _hypervolume(self, scaled: NDArray[np.float64]) -> float:
        return pareto.hypervolume(scaled, np.ones(scaled.shape[1]))


# --- methods: (table, seed, budget) -> codes of different candidates, in the order of their evaluation ----

Method = Callable[[Table, int, int], Iterator[str]]


def ours(searcher: Searcher[Any]) -> Method:
    def run(table: Table, seed: int, budget: int) -> Iterator[str]:
        objectives = [Objective(name) for name in table.objectives]
        study = Study.in_memory(
            table.space, objectives, searcher, seed=seed, identity=table.benchmark.identity
        )
        while isinstance(trial := study.ask(), Trial):
            code = table.space.code(trial.architecture)
            study.tell(trial, table.rows[code])
            yield code

    return run


def pymoo_nsga2(population: int, operators: Callable[[], dict[str, Any]]) -> Method:
    """pymoo's NSGA-II on the codes as integer vectors; a network met again has its first value."""

    def run(table: Table, seed: int, budget: int) -> Iterator[str]:
        from pymoo.algorithms.moo.nsga2 import NSGA2 as PymooNSGA2
        from pymoo.core.duplicate import DuplicateElimination
        from pymoo.core.evaluator import Evaluator
        from pymoo.core.problem import Problem
        from pymoo.core.termination import NoTermination
        from pymoo.core.variable import Integer
        from pymoo.operators.sampling.rnd import IntegerRandomSampling
        from pymoo.problems.static import StaticProblem

        alphabets = table.alphabets
        upper = [len(alphabet) - 1 for alphabet in alphabets]
        problem = Problem(n_var=len(upper), n_obj=len(table.objectives), xl=0, xu=np.array(upper), vtype=int)
        problem.vars = {place: Integer(bounds=(0, high)) for place, high in enumerate(upper)}

        def code_of(x: Sequence[int]) -> str:
            return "".join(alphabet[int(i)] for alphabet, i in zip(alphabets, x, strict=True))

        class ByKey(DuplicateElimination):  # type: ignore[misc]
            def _do(self, pop: Any, other: Any, is_duplicate: NDArray[np.bool_]) -> NDArray[np.bool_]:
                met = set() if other is None else {table.key(code_of(x)) for x in other.get("X")}
                for i, x in enumerate(pop.get("X")):
                    key = table.key(code_of(x))
                    is_duplicate[i] = key in met
                    if other is None:
                        met.add(key)
                return is_duplicate

        algorithm = PymooNSGA2(
            pop_size=population,
            sampling=IntegerRandomSampling(),
            eliminate_duplicates=ByKey(),
            **operators(),
        )
        algorithm.setup(problem, termination=NoTermination(), seed=seed, verbose=False)
        first: dict[str, str] = {}
        for _ in range(10 * budget):  # generations; it may stall on what it knows
            asked = algorithm.ask()
            if asked is None or not len(asked):
                return
            losses = []
            for x in asked.get("X"):
                code = code_of(x)
                key = table.key(code)
                if key not in first:
                    first[key] = code
                    yield code
                losses.append([table.rows[first[key]][name] for name in table.objectives])
            Evaluator().eval(StaticProblem(problem, F=np.array(losses)), asked)
            algorithm.tell(infills=asked)

    return run


def point_operators() -> dict[str, Any]:
    from pymoo.operators.crossover.pntx import TwoPointCrossover
    from pymoo.operators.mutation.rm import ChoiceRandomMutation

    return {"crossover": TwoPointCrossover(), "mutation": ChoiceRandomMutation()}


def sbx_operators() -> dict[str, Any]:
    from pymoo.operators.crossover.sbx import SBX
    from pymoo.operators.mutation.pm import PM
    from pymoo.operators.repair.rounding import RoundingRepair

    rounded = {"vtype": float, "repair": RoundingRepair()}
    return {"crossover": SBX(prob=0.9, eta=15, **rounded), "mutation": PM(eta=20, **rounded)}


SEARCHERS: dict[str, Searcher[Any]] = {
    "NSGA2": NSGA2(population=20),
    "NSGA2 generational": NSGA2(population=20, offspring=None),
    "RegularizedEvolution": RegularizedEvolution(population=20, sample=5),
    "RandomSearch": RandomSearch(),
}
METHODS: dict[str, Method] = {
    **{name: ours(searcher) for name, searcher in SEARCHERS.items()},
    "pymoo NSGA2 point": pymoo_nsga2(20, point_operators),
    "pymoo NSGA2 SBX": pymoo_nsga2(20, sbx_operators),
}

# --- running ---------------------------------------------------------------------------------------


def run_method(table: Table, method: str, seed: int, budgets: Sequence[int]) -> list[Row]:
    """One search to the largest budget; one that ends early keeps its last gap."""
    codes: list[str] = []
    for code in METHODS[method](table, seed, max(budgets)):
        codes.append(code)
        if len(codes) == max(budgets):
            break
    return [
        dict(
            zip(
                COLUMNS,
                (table.name, method, seed, budget, len(found), round(table.gap(found), 6)),
                strict=True,
            )
        )
        for budget in budgets
        for found in [codes[:budget]]
    ]


def read_results(path: Path) -> list[Row]:
    if not path.exists():
        return []
    kinds = dict(zip(COLUMNS, (str, str, int, int, int, float), strict=True))
    with path.open(newline="") as file:
        return [{name: kind(row[name]) for name, kind in kinds.items()} for row in csv.DictReader(file)]


def write_results(path: Path, rows: Sequence[Row]) -> None:
    """All of them, in one step, so that a killed run leaves a whole file."""
    partial = path.with_suffix(".partial")
    with partial.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    partial.replace(path)


def compare(table: Table, methods: Sequence[str], seeds: int, budgets: Sequence[int], out: Path) -> list[Row]:
    """The rows of this comparison; those that are not in `out` yet are run and added there."""
    out.mkdir(parents=True, exist_ok=True)
    path = out / "results.csv"
    rows = read_results(path)
    done = {(row["table"], row["method"], row["seed"], row["budget"]) for row in rows}
    for seed in range(seeds):
        for method in methods:
            missing = [b for b in budgets if (table.name, method, seed, b) not in done]
            if missing:
                rows += run_method(table, method, seed, missing)
                write_results(path, rows)
                print(f"\rseed {seed + 1} of {seeds}: {method:<30}", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    return [
        row
        for row in rows
        if row["table"] == table.name
        and row["method"] in methods
        and row["seed"] < seeds
        and row["budget"] in budgets
    ]


# --- reporting -------------------------------------------------------------------------------------


def mean_and_error(gaps: Sequence[float]) -> tuple[float, float]:
    """Mean and its standard error, NaN for a single seed."""
    error = statistics.stdev(gaps) / len(gaps) ** 0.5 if len(gaps) > 1 else float("nan")
    return statistics.fmean(gaps), error


def summary(rows: Sequence[Row]) -> dict[str, dict[int, tuple[float, float]]]:
    """Method -> budget -> mean gap and standard error."""
    gaps: dict[str, dict[int, list[float]]] = {}
    for row in rows:
        gaps.setdefault(row["method"], {}).setdefault(row["budget"], []).append(row["gap"])
    return {
        method: {budget: mean_and_error(found) for budget, found in sorted(by_budget.items())}
        for method, by_budget in gaps.items()
    }


def print_summary(means: Mapping[str, Mapping[int, tuple[float, float]]], seeds: int) -> None:
    print(f"gap = (1 - HV ratio) x 1000, mean ± standard error over {seeds} seeds")
    print(f"{'evaluated':<24}" + "".join(f"{budget:>18}" for budget in next(iter(means.values()))))
    for method, by_budget in means.items():
        print(f"{method:<24}" + "".join(f"{f'{m:.2f} ± {e:.2f}':>18}" for m, e in by_budget.values()))


def write_plot(means: Mapping[str, Mapping[int, tuple[float, float]]], title: str, path: Path) -> None:
    import plotly.graph_objects as go

    figure = go.Figure(layout={"title": title, "template": "plotly_white"})
    for method, by_budget in means.items():
        heights, errors = zip(*by_budget.values(), strict=True)
        figure.add_scatter(x=list(by_budget), y=heights, name=method, error_y={"array": errors})
    figure.update_xaxes(title="candidates evaluated", type="log", tickvals=sorted(next(iter(means.values()))))
    figure.update_yaxes(title="(1 - HV ratio) x 1000", type="log")
    figure.write_html(path, include_plotlyjs=True)


def own_cost(table: Table, searcher: Searcher[Any], trials: int, seed: int) -> list[float]:
    """CPU ms of `ask` and `tell` for each trial, exact objectives included and the table left out."""
    exact = table.benchmark.exact
    objectives = [Objective(name, exact=exact.get(name)) for name in table.objectives]
    study = Study.in_memory(table.space, objectives, searcher, seed=seed, identity=table.benchmark.identity)
    spent = []
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
    for method in (method for method in methods if method in SEARCHERS):
        spent = [own_cost(table, SEARCHERS[method], 800, seed) for seed in range(repeats)]
        windows = [
            [statistics.fmean(one[a:b]) for one in spent] for a, b in ((0, 800), (100, 200), (700, 800))
        ]
        ratios = [late / early for early, late in zip(windows[1], windows[2], strict=True)]
        print(f"{method:<24}" + "".join(f"{statistics.median(w):>10.3f}" for w in (*windows, ratios)))


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--benchmark", choices=BENCHMARKS, default="macro")
    parser.add_argument("--table", type=Path, help="its file; default: the one in $NAS_DATA")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--budgets", type=int, nargs="+", default=[50, 100, 200, 400])
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS), metavar="METHOD")
    parser.add_argument("--out", type=Path, default=Path("runs/bench_search"))
    parser.add_argument("--cost", action="store_true", help="measure our own CPU time a trial instead")
    chosen = parser.parse_args(argv)
    if chosen.seeds < 1 or min(chosen.budgets) < 1:
        parser.error("`seeds >= 1` and `budgets >= 1` must hold")
    if chosen.table is None:
        if "NAS_DATA" not in os.environ:
            parser.error("no table: set NAS_DATA to the folder of the tables, or pass --table PATH")
        chosen.table = Path(os.environ["NAS_DATA"]) / BENCHMARKS[chosen.benchmark].file
    if not chosen.table.is_file():
        parser.error(f"no table at {chosen.table}: set NAS_DATA to the folder of the tables, or pass --table")
    return chosen


def main(argv: Sequence[str] | None = None) -> None:
    chosen = arguments(argv)
    table = Table(chosen.benchmark, chosen.table)
    if chosen.cost:
        print_cost(table, chosen.methods)
        return
    means = summary(compare(table, chosen.methods, chosen.seeds, sorted(set(chosen.budgets)), chosen.out))
    print_summary(means, chosen.seeds)
    title = f"{table.name}, {chosen.seeds} seeds, {' and '.join(table.objectives)}"
    write_plot(means, title, chosen.out / "results.html")
    print(f"{chosen.out / 'results.csv'}, {chosen.out / 'results.html'}")


if __name__ == "__main__":
    main()
