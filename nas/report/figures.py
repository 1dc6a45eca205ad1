"""The figures as plain plotly dicts, which the page's script draws.

A colour is the name of a CSS variable ("--front"), so that the page can be light or dark. A point's
`customdata` is its trial's id. The last trace of a figure is empty: the script puts the trial under the
pointer there, in all figures at once.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from itertools import combinations
from typing import Any

import numpy as np

from nas.pareto import front
from nas.protocols import Objective
from nas.report.view import ReportView, Status, label, loss, number, tick
from nas.trial import Result, Trial

Figure = dict[str, Any]
Trace = dict[str, Any]

DECADES = 1.5  # an axis that spans more is drawn in log
FAINT_CURVES = 200  # learning curves drawn beside those of the front
CROWD = 50  # a front with more members is drawn finer

MARKERS: dict[Status, dict[str, Any]] = {  # drawn in this order, the last one on top
    "failed": {"symbol": "triangle-down-open", "size": 8, "color": "--fail", "opacity": 0.8},
    "infeasible": {
        "symbol": "x-thin-open",
        "size": 7,
        "color": "--fail",
        "opacity": 0.8,
        "line": {"width": 1.5},
    },
    "dominated": {"symbol": "circle", "size": 6, "color": "--faint", "opacity": 0.55},
    "front": {"symbol": "diamond", "color": "--front", "line": {"width": 1, "color": "--card"}},
    "knee": {"symbol": "star", "size": 17, "color": "--knee", "line": {"width": 1, "color": "--card"}},
}


def title(objective: Objective) -> str:
    """What an axis is called."""
    return label(objective.name) + (", more is better" if objective.maximize else "")


@dataclass(frozen=True)
class Scale:
    """Where values lie on an axis: logarithmic if they spread over decades."""

    log: bool
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float], limit: float | None = None, margin: float = 0.07) -> Scale:
        """A scale that shows all finite `values`, and `limit` unless it is far away."""
        finite = [value for value in values if math.isfinite(value)]
        log = bool(finite) and min(finite) > 0 and max(finite) > min(finite) * 10**DECADES
        places = [math.log10(value) for value in finite] if log else finite
        low, high = (min(places), max(places)) if places else (0.0, 1.0)
        span = (high - low) or abs(high) or 1.0
        if limit is not None and math.isfinite(limit) and (limit > 0 or not log):
            place = math.log10(limit) if log else limit
            if low - span / 2 <= place <= high + span / 2:
                low, high = min(low, place), max(high, place)
        pad = margin * ((high - low) or span)
        return cls(log, low - pad, high + pad)

    def share(self, value: float) -> float:
        """Where `value` lies between the ends, 0 to 1."""
        return ((math.log10(value) if self.log else value) - self.low) / ((self.high - self.low) or 1.0)

    def axis(self, text: str) -> dict[str, Any]:
        """A plotly axis called `text`."""
        return {
            "title": {"text": escape(text), "standoff": 10},
            "type": "log" if self.log else "linear",
            "range": [self.low, self.high],
            "gridcolor": "--line",
            "linecolor": "--line",
            "zeroline": False,
            "automargin": True,
            **(
                self._log_ticks()
                if self.log
                else {"nticks": 7, "tickformat": "~s" if self.high >= 1e4 else ""}
            ),
        }

    def _log_ticks(self) -> dict[str, Any]:
        """Ticks at 1, 2, 5; at 1, 3; or at every so many powers of ten, as there is room."""
        decades = self.high - self.low
        steps = (1, 2, 5) if decades < 2.5 else (1, 3) if decades < 4 else (1,)
        powers = range(math.floor(self.low), math.ceil(self.high) + 1, max(1, round(decades / 7)))
        values = [step * 10.0**power for power in powers for step in steps]
        return {"tickvals": values, "ticktext": [tick(value) for value in values]}


def figure(traces: list[Trace], xaxis: dict[str, Any], yaxis: dict[str, Any], **layout: Any) -> Figure:
    """A figure in the page's style; the last trace is the one under the pointer and starts empty."""
    return {
        "data": [{"hoverinfo": "none", "cliponaxis": False} | trace for trace in traces],
        "layout": {
            "xaxis": xaxis,
            "yaxis": yaxis,
            "margin": {"l": 8, "r": 16, "t": 12, "b": 8},
            "showlegend": False,
            "hovermode": "closest",
            "paper_bgcolor": "rgba(0,0,0,0)",
            "plot_bgcolor": "rgba(0,0,0,0)",
            "font": {"color": "--soft", "size": 12},
        }
        | layout,
    }


def ring() -> Trace:
    """An empty trace for the point under the pointer."""
    return {
        "x": [],
        "y": [],
        "mode": "markers",
        "hoverinfo": "skip",
        "marker": {"symbol": "circle-open", "size": 20, "color": "--ink", "line": {"width": 2}},
    }


def thread() -> Trace:
    """An empty trace for the line under the pointer."""
    return {"x": [], "y": [], "mode": "lines", "hoverinfo": "skip", "line": {"color": "--ink", "width": 3}}


def limit_line(axis: str, objective: Objective, scale: Scale) -> list[dict[str, Any]]:
    """A dashed line at the objective's limit, if it is on the scale."""
    limit = objective.limit
    if limit is None or (scale.log and limit <= 0) or not 0 <= scale.share(limit) <= 1:
        return []
    across = {
        "x": {"x0": limit, "x1": limit, "y0": 0, "y1": 1},
        "y": {"x0": 0, "x1": 1, "y0": limit, "y1": limit},
    }
    return [
        {
            "type": "line",
            "xref": "x" if axis == "x" else "paper",
            "yref": "y" if axis == "y" else "paper",
            "line": {"color": "--fail", "width": 1.2, "dash": "dash"},
            "opacity": 0.8,
            **across[axis],
        }
    ]


def tradeoffs(view: ReportView) -> list[Figure]:
    """A scatter for each pair of up to 4 objectives, of more the first with each; one alone over trials."""
    if len(view.objectives) == 1:
        return [progress(view)]
    if len(view.objectives) <= 4:
        return [scatter(view, a, b) for a, b in combinations(view.objectives, 2)]
    return [scatter(view, view.objectives[0], other) for other in view.objectives[1:]]


def scatter(view: ReportView, upward: Objective, rightward: Objective) -> Figure:
    """All trials that have both values, and the staircase of the pair."""
    shown = [t for t in view.trials if math.isfinite(loss(rightward, t)) and math.isfinite(loss(upward, t))]
    xs, ys = ({t.id: t.values[o.name] for t in shown} for o in (rightward, upward))
    xscale, yscale = Scale.of(list(xs.values()), rightward.limit), Scale.of(list(ys.values()), upward.limit)
    traces = []
    for status, marker in markers(view).items():
        ids = [t.id for t in shown if view.status[t.id] == status]
        if status == "front":
            traces.append(stairs(view, rightward, upward))
        traces.append(points(ids, [xs[i] for i in ids], [ys[i] for i in ids], marker))
    shapes = limit_line("x", rightward, xscale) + limit_line("y", upward, yscale)
    return figure([*traces, ring()], xscale.axis(title(rightward)), yscale.axis(title(upward)), shapes=shapes)


def markers(view: ReportView) -> dict[Status, dict[str, Any]]:
    """`MARKERS`, the front's small where it has many members."""
    return MARKERS | {"front": MARKERS["front"] | {"size": 10 if len(view.front) <= CROWD else 7}}


def points(ids: list[int], xs: list[float], ys: list[float], marker: dict[str, Any]) -> Trace:
    return {"x": xs, "y": ys, "customdata": ids, "mode": "markers", "marker": marker}


def stairs(view: ReportView, rightward: Objective, upward: Objective) -> Trace:
    """The edge of what the front dominates in these two objectives; dotted where there are more."""
    losses = np.array([[loss(rightward, t), loss(upward, t)] for t in view.winners]).reshape(-1, 2)
    best = sorted(
        (view.winners[i] for i in front(losses)), key=lambda t: (loss(rightward, t), loss(upward, t))
    )
    alone = len(view.objectives) == 2
    return {
        "x": [t.values[rightward.name] for t in best],
        "y": [t.values[upward.name] for t in best],
        "mode": "lines",
        "hoverinfo": "skip",
        "line": {
            "shape": "hv",
            "color": "--front",
            "width": 2 if alone else 1.2,
            "dash": "solid" if alone else "dot",
        },
    }


def progress(view: ReportView) -> Figure:
    """The only objective over trials, with the best so far."""
    (objective,) = view.objectives
    shown = [t for t in view.trials if math.isfinite(loss(objective, t))]
    scale = Scale.of([t.values[objective.name] for t in shown], objective.limit)
    traces = []
    for status, marker in markers(view).items():
        ids = [t.id for t in shown if view.status[t.id] == status]
        traces.append(
            points(ids, [float(i) for i in ids], [view.by_id[i].values[objective.name] for i in ids], marker)
        )
    valid = [t for t in shown if view.status[t.id] in ("knee", "front", "dominated")]
    best: list[float] = np.minimum.accumulate([loss(objective, t) for t in valid]).tolist()
    steps = {
        "x": [t.id for t in valid],
        "y": [objective.loss(value) for value in best],
        "mode": "lines",
        "hoverinfo": "skip",
        "line": {"shape": "hv", "color": "--front", "width": 2},
    }
    shapes = limit_line("y", objective, scale)
    return figure([steps, *traces, ring()], trial_axis(view), scale.axis(title(objective)), shapes=shapes)


def trial_axis(view: ReportView) -> dict[str, Any]:
    """All ids of the study."""
    last = max((t.id for t in view.trials), default=0)
    return Scale(False, -0.02 * last - 0.5, 1.02 * last + 0.5).axis("trial")


def parallel(view: ReportView) -> Figure:
    """The front over all objectives, each scaled to its own best (below) and worst (above)."""
    objectives = view.objectives
    scales = [Scale.of([t.values.get(o.name, math.nan) for t in view.winners], margin=0) for o in objectives]
    xs: list[float | None] = []
    ys: list[float | None] = []
    ids: list[int | None] = []
    chosen: tuple[list[float], list[float]] = ([], [])
    crowded = len(view.front) > CROWD
    for trial in view.winners:
        if not all(math.isfinite(loss(o, trial)) for o in objectives):
            continue
        shares = [scale.share(trial.values[o.name]) for o, scale in zip(objectives, scales, strict=True)]
        heights = [1 - s if o.maximize else s for s, o in zip(shares, objectives, strict=True)]
        places = [float(place) for place in range(len(objectives))]
        if trial.id == view.knee:
            chosen = (places, heights)
            continue
        xs += [*places, None]
        ys += [*heights, None]
        ids += [trial.id] * len(objectives) + [None]
    traces = [
        {
            "x": xs,
            "y": ys,
            "customdata": ids,
            "mode": "lines+markers",
            "line": {"color": "--front", "width": 0.6 if crowded else 1.3},
            "marker": {"symbol": "diamond", "size": 4 if crowded else 7, "color": "--front"},
            "opacity": 0.7,
        },
        {
            "x": chosen[0],
            "y": chosen[1],
            "customdata": [view.knee] * len(chosen[0]),
            "mode": "lines+markers",
            "line": {"color": "--knee", "width": 3},
            "marker": {"symbol": "star", "size": 12, "color": "--knee"},
        },
        thread(),
    ]
    ends = [
        {
            "x": place,
            "y": 0 if best else 1,
            "yshift": -13 if best else 13,
            "text": number(value),
            "showarrow": False,
        }
        for place, (o, s) in enumerate(zip(objectives, scales, strict=True))
        for value, best in zip(ends_of(s), (not o.maximize, o.maximize), strict=True)
    ]
    xaxis = {
        "tickvals": list(range(len(objectives))),
        "ticktext": [escape(label(o.name)).replace(" (", "<br>(") for o in objectives],
        "range": [-0.35, len(objectives) - 0.65],
        "showgrid": False,
        "zeroline": False,
        "automargin": True,
    }
    yaxis = {"visible": False, "range": [-0.14, 1.14]}
    posts = [
        {
            "type": "line",
            "x0": place,
            "x1": place,
            "y0": 0,
            "y1": 1,
            "layer": "below",
            "line": {"color": "--faint", "width": 1},
        }
        for place in range(len(objectives))
    ]
    return figure(traces, xaxis, yaxis, annotations=ends, shapes=posts)


def ends_of(scale: Scale) -> tuple[float, float]:
    """The values at both ends of a scale."""
    return (10**scale.low, 10**scale.high) if scale.log else (scale.low, scale.high)


def hypervolume(view: ReportView) -> Figure:
    """Hypervolume over ended trials."""
    ids, volumes = view.history
    low, high = min((v for v in volumes if v > 0), default=0.0), max(volumes, default=0.0)
    floor = low - (high - low) / 3 if low > 2 / 3 * high else 0.0
    line = {
        "x": ids,
        "y": volumes,
        "customdata": ids,
        "mode": "lines+markers" if len(ids) <= CROWD else "lines",
        "line": {"shape": "hv", "color": "--front", "width": 2},
        "marker": {"size": 4, "color": "--front"},
        "fill": "none" if floor else "tozeroy",
        "fillcolor": "--wash",
        "cliponaxis": True,
    }
    top = high + 0.06 * ((high - floor) or 1.0)
    return figure([line, ring()], trial_axis(view), Scale(False, floor, top).axis("hypervolume"))


def curves(view: ReportView) -> Figure | None:
    """Error over epochs of the winning configurations, the front's in front; None if nothing was recorded."""
    recorded = [t for t in view.done if isinstance(t.outcome, Result) and t.outcome.curve]
    metric = curve_metric(recorded)
    if metric is None:
        return None
    front_ids = set(view.front)
    others = [t for t in recorded if t.id not in front_ids]
    others = [
        others[i] for i in np.linspace(0, len(others) - 1, min(len(others), FAINT_CURVES)).round().astype(int)
    ]
    groups = {
        "other": (others, {"color": "--faint", "width": 1}, 0.4),
        "front": (
            [t for t in recorded if t.id in front_ids - {view.knee}],
            {"color": "--front", "width": 2},
            0.85,
        ),
        "knee": (
            [t for t in recorded if t.id == view.knee],
            {"color": "--knee", "width": 3.5, "dash": "dash"},
            1,
        ),
    }
    traces: list[Trace] = []
    seen: list[float] = []
    epochs = [1.0]
    for trials, line, opacity in groups.values():
        trace: Trace = {"x": [], "y": [], "customdata": [], "mode": "lines", "line": line, "opacity": opacity}
        for trial in trials:
            xs, ys = curve(trial, metric)
            seen += [y for y in ys if math.isfinite(y)]
            epochs += xs
            trace["x"] += [*xs, None]
            trace["y"] += [*(float(f"{y:.4g}") for y in ys), None]
            trace["customdata"] += [trial.id] * len(xs) + [None]
        traces.append(trace)
    xaxis = Scale(False, min(epochs) - 0.02 * max(epochs), 1.02 * max(epochs)).axis("epoch")
    return figure([*traces, thread()], xaxis, Scale.of(seen).axis(label(metric)))


def curve_metric(recorded: list[Trial]) -> str | None:
    """What learning curves show: the error, else the first thing recorded beside the epoch."""
    names = [n for t in recorded if isinstance(t.outcome, Result) for entry in t.outcome.curve for n in entry]
    return "error" if "error" in names else next((name for name in names if name != "epoch"), None)


def curve(trial: Trial, metric: str) -> tuple[list[float], list[float]]:
    """Epochs and values of one learning curve."""
    entries = trial.outcome.curve if isinstance(trial.outcome, Result) else ()
    xs = [float(entry.get("epoch", place)) for place, entry in enumerate(entries, start=1)]
    return xs, [float(entry.get(metric, math.nan)) for entry in entries]
