"""The sections of the page, in order. Whatever a study brings passes through `html.escape` or `to_json`."""

from __future__ import annotations

import json
import math
from base64 import b64encode
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from hashlib import sha256
from html import escape
from string import Template
from typing import Any
from urllib.parse import quote

from nas.protocols import Objective
from nas.report import figures, picture
from nas.report.assets import FRAME, SCRIPT, STYLE
from nas.report.view import (
    ReportView,
    Status,
    architecture_lines,
    label,
    number,
    origin,
    quantity,
    settings_text,
)
from nas.trial import Failure, Result, Trial

TIP_LINES = 26  # of an architecture, under the pointer
SHOWN_FAILURES = 12  # a kind with more starts closed
PICTURES = 100  # members of the front whose architecture is drawn: ten kilobytes each

WORDS: dict[Status, str] = {
    "knee": "knee of the front",
    "front": "Pareto front",
    "dominated": "dominated",
    "infeasible": "beyond a limit",
    "failed": "failed",
    "open": "open",
}
GLYPHS: dict[Status, str] = {
    "knee": '<path fill="var(--knee)" d="M9 1l2 5.3 6 .5-4.4 3.8 1.3 5.6-4.9-3-4.9 3 1.3-5.6L1 6.8l6-.5z"/>',
    "front": '<path fill="var(--front)" d="M9 3l6 6-6 6-6-6z"/>',
    "dominated": '<circle fill="var(--faint)" opacity=".7" cx="9" cy="9" r="4"/>',
    "infeasible": '<path stroke="var(--fail)" stroke-width="1.6" d="M5 5l8 8M13 5l-8 8"/>',
    "failed": '<path fill="none" stroke="var(--fail)" stroke-width="1.4" d="M4 5h10l-5 9z"/>',
}


def words(view: ReportView, status: Status) -> str:
    """How a trial stands, in words."""
    return "best" if len(view.objectives) == 1 and status in ("knee", "front") else WORDS[status]


def render(view: ReportView) -> str:
    """The whole page."""
    from plotly.offline import get_plotlyjs

    drawn: dict[str, figures.Figure] = {}
    parts = [
        front_figures(view, drawn),
        front_table(view),
        pictures(view),
        f'<div class="pair">{hypervolume(view, drawn)}{learning_curves(view, drawn)}</div>',
        failures(view),
        all_trials(view),
        about(view),
    ]
    plotly = get_plotlyjs()
    data = {"figures": drawn, "trials": {str(trial.id): tip(view, trial) for trial in view.trials}}
    return Template(FRAME).substitute(
        title=escape(view.title),
        policy=policy(plotly, SCRIPT),
        style=STYLE + picture.STYLE,
        numbers=numbers(view),
        sections="\n".join(filter(None, parts)),
        data=to_json(data),
        plotly=plotly,
        script=SCRIPT,
    )


def policy(*scripts: str) -> str:
    """A content security policy: no network, and no script but these."""
    hashes = " ".join(f"'sha256-{b64encode(sha256(s.encode()).digest()).decode()}'" for s in scripts)
    return (
        f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; "
        "img-src data: blob:; base-uri 'none'; form-action 'none'"
    )


def to_json(value: Any) -> str:
    """JSON that may stand in a script element: no "<", and null for what is not finite."""
    text = json.dumps(_finite(value), separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {name: _finite(item) for name, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, list | tuple) else value


# --- pieces ------------------------------------------------------------------------------------------


def section(heading: str, *content: str, hint: str = "") -> str:
    note = f'<p class="hint">{escape(hint)}</p>' if hint else ""
    return f"<section><h2>{escape(heading)}</h2>{note}{''.join(content)}</section>"


def figure(drawn: dict[str, figures.Figure], name: str, what: figures.Figure, about: str) -> str:
    """A place for `what`, which is added to the figures that the script draws."""
    drawn[name] = what
    return f'<div class="figure" id="{name}" role="img" aria-label="{escape(about)}"></div>'


def table(heads: Iterable[str], rows: Iterable[str]) -> str:
    """A table in a box that scrolls; heads that start with ">" stand over numbers."""
    cells = "".join(
        f'<th scope="col" class="n">{escape(head[1:])}</th>'
        if head.startswith(">")
        else f'<th scope="col">{escape(head)}</th>'
        for head in heads
    )
    head, body = f"<thead><tr>{cells}</tr></thead>", f"<tbody>{''.join(rows)}</tbody>"
    return f'<div class="scroll"><table>{head}{body}</table></div>'


def block(summary: str, content: str, *, shown: bool = False) -> str:
    """Content that opens on demand."""
    state = " open" if shown else ""
    return f'<details class="block"{state}><summary>{escape(summary)}</summary>{content}</details>'


def row(trial: Trial, *cells: str, kind: str = "", mark: str = "") -> str:
    css = f' class="{kind}"' if kind else ""
    return f'<tr data-trial="{trial.id}"{css}><th scope="row">#{trial.id}{mark}</th>{"".join(cells)}</tr>'


def cell(text: str, kind: str = "") -> str:
    css = f' class="{kind}"' if kind else ""
    return f"<td{css}>{escape(text)}</td>"


def value_cell(view: ReportView, trial: Trial, objective: Objective) -> str:
    """The value (all digits as its title), and what was measured again at the end."""
    value = trial.values.get(objective.name)
    exact = f' title="{float(value)}"' if value is not None else ""
    again = view.remeasured.get(trial.id, {}).get(objective.name)
    extra = f"<small>again {number(again)}</small>" if again is not None else ""
    return f'<td class="n"{exact}>{number(value)}{extra}</td>'


def tip(view: ReportView, trial: Trial) -> dict[str, Any]:
    """What the page says about a trial under the pointer, as plain text."""
    rows = []
    for objective in view.objectives:
        again = view.remeasured.get(trial.id, {}).get(objective.name)
        value = quantity(objective.name, trial.values.get(objective.name))
        repeated = f" (again {quantity(objective.name, again)})" if again is not None else ""
        rows.append((name_of(objective), value + repeated))
    if trial.id in view.test:
        rows.append(("test error", quantity("error", view.test[trial.id])))
    if isinstance(trial.outcome, Failure):
        rows.append((trial.outcome.kind, trial.outcome.message[:300]))
    rows.append(("origin", origin(trial)))
    if isinstance(trial.outcome, Result) and trial.outcome.hparams:
        rows.append(("trained with", settings_text(trial.outcome.hparams)))
    lines = architecture_lines(trial.architecture)
    if len(lines) > TIP_LINES:
        lines = [*lines[: TIP_LINES - 1], f"… {len(lines) - TIP_LINES + 1} more lines"]
    heading = f"Trial {trial.id}, {words(view, view.status[trial.id])}"
    return {"title": heading, "rows": rows, "architecture": "\n".join(lines)}


def name_of(objective: Objective) -> str:
    """Its label without the unit."""
    return label(objective.name).partition(" (")[0]


def cost(trial: Trial, what: str) -> float | None:
    return trial.outcome.cost.get(what) if isinstance(trial.outcome, Result) else None


# --- sections ----------------------------------------------------------------------------------------


def numbers(view: ReportView) -> str:
    """The key numbers; each `data` element carries all digits."""
    volumes = view.history[1]
    facts: list[tuple[str, str, float | None]] = [
        ("done", "trials done", len(view.done)),
        ("failed", "failed", len(view.failed)),
        ("open", "still open", len(view.trials) - len(view.done) - len(view.failed)),
        ("front", "on the front", len(view.front)),
        ("hypervolume", "hypervolume", volumes[-1] if volumes else None),
        ("epochs", "epochs trained", view.spent("epochs")),
        ("minutes", "candidate minutes", view.spent("seconds") / 60),
    ]
    return "".join(
        f'<div><dt>{words}</dt><dd><data id="{name}" value="{"" if value is None else float(value)}">'
        f"{f'{value:.3g}' if name == 'hours' else number(value)}</data></dd></div>"
        for name, words, value in facts
    )


def front_figures(view: ReportView, drawn: dict[str, figures.Figure]) -> str:
    if not any(trial.values for trial in view.trials):
        return section("Pareto front", hint="No trial has a value yet.")
    plots = figures.tradeoffs(view)
    drawn_ids = {number for what in plots for trace in what["data"] for number in trace.get("customdata", ())}
    present = {view.status[number] for number in drawn_ids}
    legend = "".join(
        f'<li><svg viewBox="0 0 18 18" aria-hidden="true">{glyph}</svg>{words(view, status)}</li>'
        for status, glyph in GLYPHS.items()
        if status in present
    )
    limits = ", ".join(
        o.limit_text().replace(" ", "\N{NO-BREAK SPACE}") for o in view.objectives if o.limit is not None
    )
    hint = "Point at a trial to read its architecture."
    hint += (
        " The dotted line is the best trade-off of each two objectives." if len(view.objectives) > 2 else ""
    )
    hint += f" Limits, dashed where near: {limits}." if limits else ""
    boxes = "".join(
        figure(drawn, f"tradeoff-{place}", what, f"Trade-off {place + 1}, all values are in the tables")
        for place, what in enumerate(plots)
    )
    content = [f'<ul class="legend">{legend}</ul>', f'<div class="figures">{boxes}</div>']
    if len(view.objectives) > 2 and view.front:
        across = figure(drawn, "parallel", figures.parallel(view), "The front over all objectives")
        content.append(
            '<p class="hint">One line for each front member; in every objective the best of the front is '
            f'below, the worst above.</p><div class="figures">{across}</div>'
        )
    return section("Pareto front" if len(view.objectives) > 1 else "Values", *content, hint=hint)


def front_table(view: ReportView) -> str:
    if not view.front:
        return ""
    heads = ["trial", *(">" + label(o.name) for o in view.objectives)]
    optional: list[tuple[str, bool, Callable[[Trial], str]]] = [
        (">test error (%)", bool(view.test), lambda t: cell(number(view.test.get(t.id)), "n")),
        ("trained with", True, lambda t: cell(hparams(t))),
        ("model", bool(view.models), lambda t: f"<td>{model(view.models.get(t.id))}</td>"),
    ]
    star = " ★ best" if len(view.objectives) == 1 else " ★ knee"
    wanted = [(head, make) for head, present, make in optional if present]
    rows = (
        row(
            trial,
            *(value_cell(view, trial, o) for o in view.objectives),
            *(make(trial) for _, make in wanted),
            kind="knee" if trial.id == view.knee else "",
            mark=star if trial.id == view.knee else "",
        )
        for trial in view.winners
    )
    again = " “again” is the same measurement, repeated at the end." if view.remeasured else ""
    hint = f"Sorted by {label(view.objectives[0].name)}.{again}"
    return section("Members of the front", table([*heads, *(head for head, _ in wanted)], rows), hint=hint)


def hparams(trial: Trial) -> str:
    return settings_text(trial.outcome.hparams) if isinstance(trial.outcome, Result) else ""


def model(path: str | None) -> str:
    return f'<a href="./{escape(quote(path))}">{escape(path)}</a>' if path else "–"


def inherited(trial: Trial) -> list[str]:
    """What a trial began with from its parent, if anything."""
    if not isinstance(trial.outcome, Result) or not trial.outcome.inherited:
        return []
    found = trial.outcome
    return [f"{found.inherited:.0%} of the weights from #{trial.proposal.parents[0]} ({escape(found.note)})"]


def architecture(trial: Trial) -> str:
    """As text, on demand."""
    lines = architecture_lines(trial.architecture)
    nodes = sum(len(graph) for _, graph in trial.architecture.graphs)
    return f"<details><summary>{nodes} nodes</summary><pre>{escape(chr(10).join(lines))}</pre></details>"


def pictures(view: ReportView) -> str:
    """The architectures of the front drawn, the knee's shown and the others on demand."""
    if not view.front:
        return ""
    drawn = [trial for place, trial in enumerate(view.winners) if place < PICTURES or trial.id == view.knee]
    star = "★ best" if len(view.objectives) == 1 else "★ knee"
    blocks = []
    for trial in drawn:
        who = f"#{trial.id} {star}" if trial.id == view.knee else f"#{trial.id}"
        values = [f"{name_of(o)} {quantity(o.name, trial.values.get(o.name))}" for o in view.objectives]
        drawing = picture.svg(trial.architecture, inline=True)
        content = f'<div class="picture">{drawing}</div>{architecture(trial)}'
        summary = " · ".join([who, *values, *inherited(trial)])
        blocks.append(block(summary, content, shown=trial.id == view.knee))
    hint = "Point at a box to read all of its parameters."
    if len(drawn) < len(view.front):
        hint += f" {len(drawn)} of {len(view.front)} are drawn, the best by {label(view.objectives[0].name)}."
    return section("Architectures of the front", *blocks, hint=hint)


def hypervolume(view: ReportView, drawn: dict[str, figures.Figure]) -> str:
    if view.reference is None or not view.history[0]:
        return section("Hypervolume", hint="No reference point or no ended trial yet.")
    point = ", ".join(f"{label(o.name)} {number(view.reference[o.name])}" for o in view.objectives)
    plot = figure(drawn, "hypervolume-plot", figures.hypervolume(view), "Hypervolume over trials")
    return section("Hypervolume", plot, hint=f"What the trials within the limits dominate, up to {point}.")


def learning_curves(view: ReportView, drawn: dict[str, figures.Figure]) -> str:
    what = figures.curves(view)
    if what is None:
        return section("Learning curves", hint="No learning curve was recorded.")
    hint = "Each trial's winning configuration: front thick, knee dashed, the others thin."
    return section(
        "Learning curves", figure(drawn, "curves", what, "Validation error over epochs"), hint=hint
    )


def failures(view: ReportView) -> str:
    if not view.failed:
        return section("Failures", hint="None.")
    kinds: dict[str, list[tuple[Trial, Failure]]] = defaultdict(list)
    for trial in view.failed:
        if isinstance(trial.outcome, Failure):
            kinds[trial.outcome.kind].append((trial, trial.outcome))
    known = [o for o in view.objectives if any(o.name in trial.values for trial in view.failed)]
    blocks = []
    for kind, members in sorted(kinds.items()):
        rows = (
            row(trial, cell(failure.message or "–", "wrap"), *(value_cell(view, trial, o) for o in known))
            for trial, failure in members
        )
        content = table(["trial", "message", *(">" + label(o.name) for o in known)], rows)
        blocks.append(block(f"{kind} · {len(members)}", content, shown=len(members) <= SHOWN_FAILURES))
    return section("Failures", *blocks)


def all_trials(view: ReportView) -> str:
    heads = ["trial", "", *(">" + label(o.name) for o in view.objectives), "origin", ">epochs", ">seconds"]
    rows = (
        row(
            trial,
            cell(words(view, view.status[trial.id]), "tight"),
            *(value_cell(view, trial, o) for o in view.objectives),
            cell(origin(trial)),
            cell(number(cost(trial, "epochs")), "n"),
            cell(number(cost(trial, "seconds")), "n"),
        )
        for trial in view.trials
    )
    count = len(view.trials)
    if not count:
        return ""
    return section("All trials", block(f"{count} {'trial' if count == 1 else 'trials'}", table(heads, rows)))


def about(view: ReportView) -> str:
    """Data facts, notes and the study file."""
    parts = []
    if view.data:
        facts = "".join(f"<dt>{escape(name)}</dt><dd>{escape(fact)}</dd>" for name, fact in view.data.items())
        parts.append(section("Data", f'<dl class="facts">{facts}</dl>'))
    if view.notes:
        notes = "".join(f"<li>{escape(note)}</li>" for note in view.notes)
        parts.append(section("Notes", f'<ul class="notes">{notes}</ul>'))
    if view.settings_toml:
        parts.append(section("Settings", f"<pre>{escape(view.settings_toml)}</pre>"))
    return "\n".join(parts)
