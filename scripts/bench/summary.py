"""What the rows say: means with standard errors, a plot, and a verdict in words."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import plotly.graph_objects as go

from bench.methods import OURS, RANDOM
from bench.metrics import METRICS
from bench.record import Row

RANDOM_FROM = 100
"""From so many evaluations on none of ours is to be behind random."""


class Mean(NamedTuple):
    """`error`: the standard error of the mean over seeds, NaN for a single one."""

    value: float
    error: float


Means = Mapping[str, Mapping[int, Mean]]
"""Method -> budget -> mean."""


def means(rows: Sequence[Row], column: str) -> Means:
    """Of a column, over seeds; values that are not there (NaN) are left out."""
    values: dict[str, dict[int, list[float]]] = {}
    for row in rows:
        value = float(getattr(row, column))
        if not math.isnan(value):
            values.setdefault(row.method, {}).setdefault(row.budget, []).append(value)
    return {m: {b: _mean(found) for b, found in sorted(by.items())} for m, by in values.items()}


def _mean(values: Sequence[float]) -> Mean:
    several = len(values) > 1
    error = statistics.stdev(values) / len(values) ** 0.5 if several else math.nan
    return Mean(statistics.fmean(values), error)


# --- tables ------------------------------------------------------------------------------------------


def lines(rows: Sequence[Row], metric: str) -> Iterator[str]:
    """The means of a metric by method and budget, what they cost, and whose runs are not whole."""
    methods = list(dict.fromkeys(row.method for row in rows))
    width = max(map(len, ["candidates evaluated", *methods])) + 2
    seeds = len({row.seed for row in rows})

    yield f"{METRICS[metric].title}, mean ± standard error over {seeds} seeds"
    found, budgets = means(rows, metric), sorted({row.budget for row in rows})
    digits = 2 if metric.startswith("gap") else 3
    yield f"{'candidates evaluated':<{width}}" + "".join(f"{b:>18}" for b in budgets)
    for method in methods:
        cells = [
            f"{m.value:.{digits}f} ± {m.error:.{digits}f}" if (m := found[method].get(b)) else "-"
            for b in budgets
        ]
        yield f"{method:<{width}}" + "".join(f"{cell:>18}" for cell in cells)

    yield ""
    yield "own CPU ms a candidate: ask and tell, no look-ups; windows of evaluations"
    windows = sorted({(row.since, row.budget) for row in rows}, key=lambda window: window[::-1])
    spent = [
        means([row for row in rows if (row.since, row.budget) == window], "cpu_ms") for window in windows
    ]
    yield f"{'from-to':<{width}}" + "".join(f"{f'{since}-{budget}':>12}" for since, budget in windows)
    for method in methods:
        cells = [
            f"{by[method][budget].value:.2f}" if method in by else "-"
            for by, (_, budget) in zip(spent, windows, strict=True)
        ]
        yield f"{method:<{width}}" + "".join(f"{cell:>12}" for cell in cells)

    for method, by in means(rows, "evaluated").items():
        if early := [f"{m.value:.0f} of {budget}" for budget, m in by.items() if m.value < budget]:
            yield f"{method} ended early, on average after {', '.join(early)}"
        if (its := len({row.seed for row in rows if row.method == method})) < seeds:
            yield f"{method} has {its} of {seeds} seeds"


# --- verdict -----------------------------------------------------------------------------------------


def verdict(found: Means, sign: int = 1) -> Iterator[str]:
    """In words, for each budget: who of ours is behind random, and behind the same algorithm of a rival.

    Behind random is who has the worse mean, from `RANDOM_FROM` evaluations on. Behind the best of its
    twins is who is worse by more than two standard errors of the difference.

    Args:
        found: of any methods; what is not there is not compared, and this is said.
        sign: 1 if less is better, -1 if more is.
    """
    budgets = sorted({budget for by in found.values() for budget in by})
    if any(math.isnan(mean.error) for by in found.values() for mean in by.values()):
        yield "no verdict: standard errors need two seeds at least"
        return
    for budget in budgets:
        at = {method: by[budget] for method, by in found.items() if budget in by}
        said = []
        if budget >= RANDOM_FROM and RANDOM in at:
            said.append(_sentence("random", _behind_random(at, sign)))
        if pairs := {name: twins for name in OURS if name in at and (twins := _run(OURS[name].twins, at))}:
            said.append(_sentence("the same algorithm of a rival", _behind_twins(at, pairs, sign)))
        if said:
            yield f"at {budget}: " + "; ".join(said)
    if RANDOM not in found:
        yield f"not compared with random: {RANDOM} was not run"
    for name in [name for name in OURS if name in found]:
        if absent := [twin for twin in OURS[name].twins if twin not in found]:
            yield f"not compared: {name} with {', '.join(absent)}, not run"


def _run(names: Sequence[str], at: Mapping[str, Mean]) -> list[str]:
    return [name for name in names if name in at]


def _sentence(whom: str, behind: Sequence[str]) -> str:
    return f"behind {whom}: {', '.join(behind)}" if behind else f"none of ours is behind {whom}"


def _behind_random(at: Mapping[str, Mean], sign: int) -> list[str]:
    behind = []
    for name in _run(tuple(OURS), at):
        worse, error = _difference(at[name], at[RANDOM], sign)
        if worse > 0 and name != RANDOM:
            behind.append(f"{name} by {worse:.3g} ± {error:.2g}")
    return behind


def _behind_twins(at: Mapping[str, Mean], pairs: Mapping[str, Sequence[str]], sign: int) -> list[str]:
    behind = []
    for name, twins in pairs.items():
        best = min(twins, key=lambda twin: sign * at[twin].value)
        worse, error = _difference(at[name], at[best], sign)
        if worse > 2 * error:
            behind.append(f"{name} by {worse:.3g} ± {error:.2g} ({best})")
    return behind


def _difference(ours: Mean, theirs: Mean, sign: int) -> tuple[float, float]:
    """By how much ours is worse, and the standard error of that."""
    return sign * (ours.value - theirs.value), math.hypot(ours.error, theirs.error)


# --- plot --------------------------------------------------------------------------------------------


def write_plot(found: Means, title: str, metric: str, path: Path) -> None:
    """Means with standard errors against evaluations, as one HTML file that needs no network."""
    budgets = sorted({budget for by in found.values() for budget in by})
    figure = go.Figure(layout={"title": title, "template": "plotly_white"})
    for method, by in found.items():
        heights, errors = zip(*by.values(), strict=True)
        line = {"dash": "solid" if method in OURS else "dot"}
        figure.add_scatter(x=list(by), y=heights, name=method, error_y={"array": errors}, line=line)
    figure.update_xaxes(title="candidates evaluated", type="log", tickvals=budgets)
    figure.update_yaxes(title=METRICS[metric].title, type="log" if METRICS[metric].sign > 0 else "linear")
    figure.write_html(path, include_plotlyjs=True)
