"""What a report is about, and the words and numbers it is told in."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from nas.architecture import Architecture, Scalar
from nas.pareto import front, hypervolume, hypervolume_history
from nas.protocols import Objective
from nas.trial import Failure, Result, Trial

Status = Literal["knee", "front", "dominated", "infeasible", "failed", "open"]
"""How a trial stands: "infeasible" is beyond a limit, whether it was trained or not."""

NAMES = {"error": ("error", "%"), "accuracy": ("accuracy", "%")}
UNITS = {"percent": "%", "us": "µs", "mb": "MB", "kb": "kB", "mj": "mJ"} | {
    u: u for u in ("ms", "s", "bytes")
}
FACTORS = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))
FULL_HISTORY = 400  # trials; longer histories are sampled
HISTORY_POINTS = 120


@dataclass(frozen=True)
class ReportView:
    """A study as its report shows it.

    Attributes:
        title: heading of the page.
        objectives: at least one; values are in their own units and signs.
        trials: in the order of their ids, open ones included.
        front: ids of the Pareto-optimal trials.
        knee: id of the front's knee, if there is one.
        reference: the hypervolume's reference by objective name, None while it is not yet known.
        remeasured: trial id -> objective name -> value measured again at the end.
        settings_toml: the study file.
        data: facts of the data set, by name.
        notes: remarks, a line each.
        test: trial id -> test error in percent, where known.
        models: trial id -> path of the exported folder, relative to the page.

    Raises:
        ValueError: no objective is given, `front` or `knee` names no trial, or `reference` lacks a value.
    """

    title: str
    objectives: tuple[Objective, ...]
    trials: Sequence[Trial]
    front: Sequence[int] = ()
    knee: int | None = None
    reference: Mapping[str, float] | None = None
    remeasured: Mapping[int, Mapping[str, float]] = field(default_factory=dict)
    settings_toml: str = ""
    data: Mapping[str, str] = field(default_factory=dict)
    notes: Sequence[str] = ()
    test: Mapping[int, float] = field(default_factory=dict)
    models: Mapping[int, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.objectives:
            raise ValueError("a report needs at least one objective, but got none")
        unknown = {*self.front, *(() if self.knee is None else (self.knee,))} - set(self.by_id)
        if unknown:
            raise ValueError(f"front and knee must name trials, but got unknown ids {sorted(unknown)}")
        lacking = [
            o.name for o in self.objectives if self.reference is not None and o.name not in self.reference
        ]
        if lacking:
            raise ValueError(f"the reference must name every objective, but {lacking} are missing")

    @cached_property
    def by_id(self) -> dict[int, Trial]:
        """The trials by their id."""
        return {trial.id: trial for trial in self.trials}

    @cached_property
    def status(self) -> dict[int, Status]:
        """How each trial stands, by its id."""
        members = set(self.front)
        return {trial.id: self._status(trial, members) for trial in self.trials}

    def _status(self, trial: Trial, members: set[int]) -> Status:
        if trial.id == self.knee:
            return "knee"
        if trial.id in members:
            return "front"
        if trial.outcome is None:
            return "open"
        if isinstance(trial.outcome, Failure):
            return "infeasible" if trial.outcome.kind == "infeasible" else "failed"
        return "infeasible" if self._violates(trial) else "dominated"

    def _violates(self, trial: Trial) -> bool:
        return any(o.violation(trial.values[o.name]) > 0 for o in self.objectives if o.name in trial.values)

    @cached_property
    def winners(self) -> list[Trial]:
        """The front, best first by the first objective."""
        first = self.objectives[0]
        members = [self.by_id[number] for number in self.front]
        return sorted(members, key=lambda trial: (loss(first, trial), trial.id))

    @property
    def done(self) -> list[Trial]:
        return [trial for trial in self.trials if isinstance(trial.outcome, Result)]

    @property
    def failed(self) -> list[Trial]:
        return [trial for trial in self.trials if isinstance(trial.outcome, Failure)]

    def spent(self, what: str) -> float:
        """Sum of one cost ("epochs", "seconds") over all results."""
        costs = (
            trial.outcome.cost.get(what, 0.0) for trial in self.done if isinstance(trial.outcome, Result)
        )
        return sum(cost for cost in costs if math.isfinite(cost))

    def losses(self, trials: Sequence[Trial]) -> NDArray[np.float64]:
        """`float64[n, m]`, minimised; all NaN for a trial that failed or is beyond a limit."""
        rows = [
            [math.nan if self._violates(t) or not t.ok else loss(o, t) for o in self.objectives]
            for t in trials
        ]
        return np.array(rows, dtype=np.float64).reshape(len(rows), len(self.objectives))

    @cached_property
    def history(self) -> tuple[list[int], list[float]]:
        """Ids of ended trials, and the hypervolume of the feasible ones so far; empty without reference."""
        ended = [trial for trial in self.trials if trial.outcome is not None]
        if self.reference is None or not ended:
            return [], []
        bound = [o.loss(self.reference[o.name]) for o in self.objectives]
        rows = self.losses(ended)
        if len(ended) <= FULL_HISTORY:
            return [trial.id for trial in ended], hypervolume_history(rows, bound)
        counts = np.linspace(1, len(ended), HISTORY_POINTS).round().astype(int)
        prefixes = (rows[:count] for count in counts)
        return [ended[count - 1].id for count in counts], [hypervolume(r[front(r)], bound) for r in prefixes]


def loss(objective: Objective, trial: Trial) -> float:
    """The trial's value, minimised; NaN if it has none."""
    return objective.loss(trial.values.get(objective.name, math.nan))


def unit(name: str) -> str:
    """The unit an objective's name ends with, or "".

    >>> unit("latency_ms"), unit("error"), unit("params")
    ('ms', '%', '')
    """
    return NAMES[name][1] if name in NAMES else UNITS.get(name.rpartition("_")[2], "") if "_" in name else ""


def label(name: str) -> str:
    """An objective's name as people write it.

    >>> label("latency_ms"), label("error"), label("params")
    ('latency (ms)', 'error (%)', 'params')
    """
    if name in NAMES:
        return "{} ({})".format(*NAMES[name])
    stem, _, suffix = name.rpartition("_")
    return (
        f"{stem.replace('_', ' ')} ({UNITS[suffix]})" if stem and suffix in UNITS else name.replace("_", " ")
    )


def number(value: float | None) -> str:
    """Four digits, thousands as k, M, G, T; a dash for what is not finite.

    >>> number(2.34567), number(1.76), number(9999), number(1234567), number(None)
    ('2.346', '1.760', '9999', '1.235M', '–')
    """
    if value is None or not math.isfinite(value):
        return "–"
    for factor, suffix in FACTORS:
        if abs(value) >= max(factor, 1e4):
            return f"{value / factor:#.4g}".removesuffix(".") + suffix
    return f"{value:.0f}" if value == round(value) else f"{value:#.4g}".removesuffix(".")


def tick(value: float) -> str:
    """A round number on an axis.

    >>> tick(0.5), tick(5000.0), tick(2e7)
    ('0.5', '5k', '20M')
    """
    factor, suffix = next(((f, s) for f, s in FACTORS if abs(value) >= f), (1.0, ""))
    return f"{value / factor:g}{suffix}"


def quantity(name: str, value: float | None) -> str:
    """A value of an objective with its unit."""
    return " ".join(filter(None, (number(value), unit(name))))


def scalar(value: Scalar) -> str:
    """A hyperparameter in few digits."""
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def settings_text(pairs: Mapping[str, Scalar]) -> str:
    """Hyperparameters in one line."""
    return " · ".join(f"{name} {scalar(value)}" for name, value in pairs.items())


def origin(trial: Trial) -> str:
    """Where a candidate came from, as in "mutate:widen of #3"."""
    parents = ", ".join(f"#{parent}" for parent in trial.proposal.parents)
    return " of ".join(filter(None, (trial.proposal.origin, parents))) or "–"


def architecture_lines(arch: Architecture) -> list[str]:
    """The architecture in words, a line for each node after one for the whole.

    >>> from nas.architecture import Graph, Node
    >>> net = Graph((Node(0, "input"), Node(2, "conv", (0,), (("kernel", 3),))))
    >>> architecture_lines(Architecture("chain", (("net", net),), (("width", 16),)))
    ['chain · width 16', '0  input', '2  conv kernel 3 ← 0']
    """
    lines = [" · ".join(filter(None, (arch.space, settings_text(dict(arch.params)))))]
    for name, graph in arch.graphs:
        if len(arch.graphs) > 1:
            lines.append(f"[{name}]")
        for node in graph:
            what = ", ".join(f"{key} {scalar(value)}" for key, value in node.params)
            sources = ", ".join(map(str, node.inputs))
            lines.append(
                f"{node.id}  {node.op}" + (f" {what}" if what else "") + (f" ← {sources}" if sources else "")
            )
    return lines
