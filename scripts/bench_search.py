"""Compares searchers on real tables, rivals beside ours in the same run.

    python scripts/bench_search.py --benchmark all --seeds 20 --jobs 2     # run again: only what is missing
    python scripts/bench_search.py --benchmark macro --methods NSGA2 'pymoo-NSGA2-*' --first-seed 100
    python scripts/bench_search.py --benchmark macro --methods Optuna-GP 'BoTorch-*'      # slow ones
    python scripts/bench_search.py --cost                                # own CPU time up to 800 trials

A budget counts different candidates evaluated (by network, on NAS-Bench-201 by written form); look-ups of
repeats cost nothing. gap = (1 - HV ratio) x 1000: hypervolume of what was found over that of the table's
true front, objectives min-max normalised over the whole table, reference (1, …, 1). With one objective:
regret, the least error found less the table's least. Methods named "…, cost known" may see the exact
objectives of any candidate; all others are told the values of what they evaluate and nothing else.

Results: BENCHMARK.csv with all metrics and own CPU time, and BENCHMARK.html, in the folder --out; times are
those of one thread where OMP_NUM_THREADS=1 is set. What is in the file is not run again: where a method was
changed, choose another folder. Then in words who of ours is behind random, or behind its like of a rival.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Collection, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np

from bench.driving import drive
from bench.methods import METHODS, OURS
from bench.metrics import METRICS, main_metric
from bench.record import RecordError
from bench.running import compare
from bench.summary import lines, means, verdict, write_plot
from bench.tables import BENCHMARKS, Table

COST_TRIALS, COST_SEEDS, COST_RUNS = 800, 5, 3


def parsed(argv: Sequence[str] | None) -> tuple[argparse.Namespace, list[str]]:
    """The options, checked, and the names of the methods chosen."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--benchmark", nargs="+", choices=[*BENCHMARKS, "all"], default=["macro"],
                        metavar="NAME", help=f"all, or of {', '.join(BENCHMARKS)}")  # fmt: skip
    parser.add_argument("--methods", nargs="+", default=[], metavar="NAME",
                        help="names or patterns ('pymoo-*'); default: all but slow ones")  # fmt: skip
    parser.add_argument("--slow", action="store_true", help="with the slow ones that are installed")
    parser.add_argument("--seeds", type=int, default=20, help="how many")
    parser.add_argument("--first-seed", type=int, default=0, help="for tuning: not those of a comparison")
    parser.add_argument("--budgets", type=int, nargs="+", default=[50, 100, 200, 400])
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--metric", choices=METRICS, help="what is shown; default: gap, or regret")
    parser.add_argument("--data", type=Path, help="folder of the tables; default: $NAS_DATA")
    parser.add_argument("--out", type=Path, default=Path("runs/bench_search"))
    parser.add_argument("--cost", action="store_true", help="measure own CPU time a trial of ours instead")
    chosen = parser.parse_args(argv)
    chosen.budgets = sorted(set(chosen.budgets))
    if "all" in chosen.benchmark:
        chosen.benchmark = list(BENCHMARKS)
    if min(chosen.seeds, chosen.jobs, chosen.budgets[0]) < 1 or chosen.first_seed < 0:
        parser.error("`seeds >= 1`, `first-seed >= 0`, `budgets >= 1` and `jobs >= 1` must hold")
    chosen.data = chosen.data or Path(os.environ.get("NAS_DATA", ""))
    try:
        return chosen, selected(chosen.methods, chosen.slow, OURS if chosen.cost else METHODS)
    except ValueError as error:
        parser.error(str(error))


def selected(patterns: Sequence[str], slow: bool, methods: Collection[str]) -> list[str]:
    """Names of methods, in order.

    Raises:
        ValueError: a pattern fits none, or something is not installed.
    """
    if not patterns:
        quick = [name for name in methods if not METHODS[name].slow]
        able = [name for name in methods if METHODS[name].slow and not METHODS[name].missing()]
        return [name for name in methods if name in quick or (slow and name in able)]
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in methods):
            raise ValueError(f"methods must be of {', '.join(methods)}, but got {pattern!r}")
    names = [name for name in methods if any(fnmatchcase(name, pattern) for pattern in patterns)]
    for name in names:
        if missing := METHODS[name].missing():
            raise ValueError(f"{name} needs {missing}: pip install 'paretonas[rivals]'")
    return names


def print_cost(benchmark: str, data: Path, methods: Sequence[str]) -> None:
    """Own CPU time, on the mean of some trials; ratio: of 700-800 to 100-200.

    A search is run several times, each time on a space that remembers nothing, and of each trial the least
    time counts: the clock of a shared machine changes while it runs.
    """
    print(
        "own CPU ms a trial: ask and tell, no look-ups; the least of "
        f"{COST_RUNS} runs of each search, median of {COST_SEEDS} searches"
    )
    print(f"{'trials':<28}{'0-200':>10}{'0-800':>10}{'100-200':>10}{'700-800':>10}{'ratio':>10}")
    for name in methods:
        figures = []
        for seed in range(COST_SEEDS):
            runs = []
            for _ in range(COST_RUNS):
                table = Table(BENCHMARKS[benchmark], data)
                runs.append(drive(METHODS[name].start(table, seed), table, COST_TRIALS).seconds)
            least = np.min(runs, axis=0) * 1000
            window = least[:200].mean(), least.mean(), least[100:200].mean(), least[700:].mean()
            figures.append((*window, window[3] / window[2]))
        print(f"{name:<28}" + "".join(f"{figure:>10.3f}" for figure in np.median(figures, axis=0)))


def run(benchmark: str, names: Sequence[str], chosen: argparse.Namespace) -> list[str]:
    """Runs what is missing of a benchmark, prints and plots what there is; returns what failed."""
    table = Table(BENCHMARKS[benchmark], chosen.data)
    methods = [name for name in names if METHODS[name].fits(table)]
    title = f"{table.name} ({', '.join(table.objectives)})"
    print(f"\n{title}")
    if not methods:
        print("none of the methods chosen is for this table")
        return []
    if chosen.cost:
        print_cost(benchmark, chosen.data, methods)
        return []
    chosen.out.mkdir(parents=True, exist_ok=True)
    path = chosen.out / f"{benchmark}.csv"
    seeds = range(chosen.first_seed, chosen.first_seed + chosen.seeds)
    rows, failures = compare(table, chosen.data, methods, seeds, chosen.budgets, path, chosen.jobs)
    if rows:
        metric = chosen.metric or main_metric(len(table.objectives))
        found = means(rows, metric)
        print(*lines(rows, metric), "", *verdict(found, METRICS[metric].sign), sep="\n")
        write_plot(found, title, metric, path.with_suffix(".html"))
        print(f"written: {path.name} and {path.stem}.html in {chosen.out}")
    return failures


def main(argv: Sequence[str] | None = None) -> None:
    chosen, names = parsed(argv)
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # of processes started from here
    try:
        failures = [line for benchmark in chosen.benchmark for line in run(benchmark, names, chosen)]
    except (FileNotFoundError, RecordError) as error:
        sys.exit(f"bench_search.py: {error}")
    if failures:
        sys.exit("\n".join([f"{len(failures)} runs failed; run again to try them again:", *failures]))


if __name__ == "__main__":
    main()
