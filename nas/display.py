"""What the terminal shows: the running search, the front, the state of a study."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from nas.running import Watch
from nas.study import Study
from nas.trial import Failure, Result, Trial


def number(value: float | None) -> str:
    """A value in at most a few signs: 21810, 0.743, 1.2e+07."""
    if value is None:
        return "-"
    if float(value).is_integer() and abs(value) < 1e9:
        return f"{int(value):,}"
    return f"{value:.4g}"


def duration(seconds: float) -> str:
    """Hours, minutes and seconds: "1:02:03" or "2:03"."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def counts(trials: Sequence[Trial]) -> tuple[int, int, int]:
    """Trials that succeeded, failed and are open."""
    done = sum(isinstance(trial.outcome, Result) for trial in trials)
    failed = sum(isinstance(trial.outcome, Failure) for trial in trials)
    return done, failed, len(trials) - done - failed


def best(study: Study) -> str:
    """The best value of each objective by itself, among the successful trials that meet all limits."""
    found = study.successes()
    values = {o.name: min((t.values[o.name] for t in found), key=o.loss) for o in study.objectives if found}
    return ", ".join(f"{name} {number(value)}" for name, value in values.items()) or "-"


def front_table(study: Study) -> Table:
    """The front, sorted by the first objective; measured-again values stand behind the first ones."""
    again, knee, tests = study.remeasured(), study.knee(), study.test_errors()
    table = Table(title=f"Pareto front of {len(study.trials)} trials")
    table.add_column("trial", justify="right")
    for objective in study.objectives:
        table.add_column(objective.name, justify="right")
    if tests:
        table.add_column("test error", justify="right")
    table.add_column("from")
    first = study.objectives[0]
    for trial in sorted(study.front(), key=lambda trial: first.loss(trial.values[first.name])):
        cells = [f"{trial.id}{' *' if knee and trial.id == knee.id else ''}"]
        for objective in study.objectives:
            cell = number(trial.values[objective.name])
            repeated = again.get(trial.id, {}).get(objective.name)
            cells.append(cell if repeated is None else f"{cell} ({number(repeated)})")
        if tests:
            cells.append(number(tests.get(trial.id)))
        table.add_row(*cells, trial.proposal.origin)
    return table


def legend(study: Study) -> str:
    """What the signs in `front_table` mean; empty for an empty front."""
    if not study.front():
        return ""
    return "* knee" + ("; in brackets: measured again, together, at the end" if study.remeasured() else "")


def status_table(study: Study) -> Table:
    """Where a study stands."""
    done, failed, still_open = counts(study.trials)
    kinds = Counter(t.outcome.kind for t in study.trials if isinstance(t.outcome, Failure))
    results = [t.outcome for t in study.trials if isinstance(t.outcome, Result)]
    table = Table(show_header=False)
    table.add_row("trials", f"{len(study.trials)} of {study.settings.run.trials}")
    table.add_row("done / failed / open", f"{done} / {failed} / {still_open}")
    if kinds:
        table.add_row("failures", ", ".join(f"{kind}: {count}" for kind, count in sorted(kinds.items())))
    beyond = done - len(study.successes())
    if beyond:
        table.add_row("beyond a measured limit", f"{beyond} of those done")
    table.add_row("on the front", str(len(study.front())))
    grown = study.last_growth()
    since = "" if grown is None else f", last enlarged by trial {grown}"
    table.add_row("hypervolume", f"{number(study.hypervolume())}{since}")
    table.add_row("best of each", best(study))
    for what, text in study.searcher_says().items():
        table.add_row(what, text)
    table.add_row("epochs trained", number(sum(r.cost.get("epochs", 0) for r in results)))
    table.add_row("candidate time", duration(sum(r.cost.get("seconds", 0) for r in results)))
    return table


def outcome_line(study: Study, trial: Trial) -> str:
    """How a trial ended, in one line."""
    if isinstance(trial.outcome, Failure):
        return f"trial {trial.id} failed: {trial.outcome.kind}: {trial.outcome.message}"
    values = ", ".join(f"{name} {number(value)}" for name, value in trial.values.items())
    known = [o for o in study.objectives if o.name in trial.values]
    beyond = [o.limit_text() for o in known if o.violation(trial.values[o.name]) > 0]
    return f"trial {trial.id}: {values}" + (f" (beyond {', '.join(beyond)})" if beyond else "")


class Progress:
    """The state of a running search, as one live display or as plain lines."""

    def __init__(self, study: Study, budget: int) -> None:
        self._study = study
        self._budget = budget
        self._start = time.monotonic()
        self._before = sum(counts(study.trials)[:2])
        self._last = ""
        self._says: Mapping[str, str] = {}

    def left(self) -> str:
        """Time left, from the pace of this run."""
        finished = sum(counts(self._study.trials)[:2])
        if finished == self._before:
            return "-"
        pace = (time.monotonic() - self._start) / (finished - self._before)
        return duration(pace * max(self._budget - finished, 0))

    def line(self, trial: Trial) -> str:
        done, failed, _ = counts(self._study.trials)
        return (
            f"[{done + failed}/{self._budget}] {outcome_line(self._study, trial)} | hypervolume "
            f"{number(self._study.hypervolume())} | left {self.left()}"
        )

    def note(self, trial: Trial) -> None:
        if trial.outcome is not None:
            self._last = outcome_line(self._study, trial)
            self._says = self._study.searcher_says()

    def __rich__(self) -> RenderableType:
        done, failed, running = counts(self._study.trials)
        grid = Table.grid(padding=(0, 2))
        grid.add_row(
            "trials", ProgressBar(self._budget, done + failed, width=40), f"{done + failed}/{self._budget}"
        )
        head = Text(f"done {done}  failed {failed}  running {running}  left {self.left()}")
        volume = number(self._study.hypervolume())
        says = "".join(f"{what}  {text}\n" for what, text in self._says.items())
        body = Text(f"best of each  {best(self._study)}\nhypervolume  {volume}\n{says}{self._last}")
        return Group(grid, head, body)


@contextmanager
def progress(study: Study, budget: int, console: Console) -> Iterator[Watch]:
    """Shows a search while it runs; without a terminal, a plain line for each trial that ends."""
    state = Progress(study, budget)
    if not console.is_terminal:

        def plain(trial: Trial) -> None:
            if trial.outcome is not None:
                console.print(state.line(trial), highlight=False, markup=False, soft_wrap=True)

        yield plain
        return
    with Live(state, console=console, refresh_per_second=2):
        yield state.note


def front_json(study: Study) -> list[Mapping[str, object]]:
    """The front as plain data, in id order."""
    again, knee, tests = study.remeasured(), study.knee(), study.test_errors()
    return [
        {
            "id": trial.id,
            "values": dict(trial.values),
            "remeasured": again.get(trial.id, {}),
            "knee": knee is not None and trial.id == knee.id,
            "test_error": tests.get(trial.id),
            "hparams": dict(trial.outcome.hparams) if isinstance(trial.outcome, Result) else {},
            "origin": trial.proposal.origin,
            "parents": list(trial.proposal.parents),
            "weights": trial.outcome.weights if isinstance(trial.outcome, Result) else None,
            "architecture": trial.architecture.to_dict(),
        }
        for trial in study.front()
    ]
