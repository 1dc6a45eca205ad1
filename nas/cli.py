"""The command `nas`. Each command loads what it needs when it runs, so that `nas --help` is quick."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from nas.export import Exported
    from nas.protocols import SearchSpace
    from nas.settings import Settings
    from nas.study import Study
    from nas.trial import Trial

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Multi-objective neural architecture search.",
)

Folder = Annotated[Path, typer.Argument(help="The study's folder, e.g. runs/first.")]
Knee = Annotated[bool, typer.Option("--knee", help="Only the front's knee.")]
Prefer = Annotated[
    str | None,
    typer.Option("--prefer", help='Only the best member by importance, e.g. "error=2,latency_ms=1".'),
]
Ids = Annotated[str | None, typer.Option("--ids", help="Only these trials, e.g. 3,17.")]
Where = Annotated[
    list[str] | None, typer.Option("--where", help='Only front members that meet this, e.g. "latency_ms<2".')
]


@app.callback(invoke_without_command=True)
def root(
    show: Annotated[bool, typer.Option("--version", help="Show the version and exit.")] = False,
) -> None:
    """Multi-objective neural architecture search."""
    if show:
        from importlib.metadata import version

        typer.echo(f"paretonas {version('paretonas')}")
        raise typer.Exit


@app.command()
def init(
    path: Annotated[Path, typer.Argument(help="File to write.")] = Path("study.toml"),
    force: Annotated[bool, typer.Option("--force", help="Replace an existing file.")] = False,
) -> None:
    """Write a commented study file to start from."""
    from nas.config import TEMPLATE

    if path.exists() and not force:
        _fail(f"{path} exists already: choose another name, or replace it with --force")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(TEMPLATE, encoding="utf-8")
    typer.echo(f"wrote {path}; next: nas search {path} --out runs/first")


@app.command()
def search(
    out: Annotated[Path, typer.Option("--out", help="The study's folder, e.g. runs/first.")],
    settings: Annotated[Path | None, typer.Argument(help="The study file; not needed to go on.")] = None,
    workers: Annotated[int | None, typer.Option(help="Processes; 0 for none but this one.")] = None,
    trials: Annotated[int | None, typer.Option(help="How many trials the study shall have in all.")] = None,
) -> None:
    """Run a study; running it again continues it."""
    from nas.config import read_settings
    from nas.display import front_table, legend, progress
    from nas.report.of_study import notes
    from nas.store import Store
    from nas.study import Study

    for name, value, least in (("--workers", workers, 0), ("--trials", trials, 1)):
        if value is not None and value < least:
            _fail(f"`{name} >= {least}` must hold, but got {value}")
    wanted = read_settings(settings) if settings is not None else None
    if Store.exists(out):
        study = Study.open(out)
        _same_study(study, wanted)
    elif wanted is None:
        _fail(f"{out} holds no study to go on with: name a study file (`nas init` writes one)")
    else:
        study = Study.create(out, wanted)
    console = _console()
    budget = trials if trials is not None else study.settings.run.trials
    signal.signal(signal.SIGTERM, _interrupt)
    with study:
        try:
            with progress(study, budget, console) as watch:
                ended = study.run(budget, workers=workers, watch=watch)
        except KeyboardInterrupt:
            console.print(f"stopped; nothing is lost: nas search --out {out} goes on", highlight=False)
            raise typer.Exit(130) from None
        if study.front():
            console.print(front_table(study), legend(study), highlight=False)
        for note in notes(study):
            console.print(f"note: {note}", markup=False, highlight=False)
        if ended is not None and study.front():
            console.print(f"the search ended: {ended.reason}", markup=False, highlight=False)
        elif ended is not None:
            _fail(f"the search ended: {ended.reason}")
        elif not study.front():
            _fail(f"no trial succeeded within the limits: `nas status {out}` and the report show why")


def _same_study(study: Study, wanted: Settings | None) -> None:
    """A study goes on under its own settings; only [run] may change."""
    from nas.config import differences

    if wanted is None:
        return
    if found := differences(study.settings, wanted):
        _fail(
            "the settings file must be the study's own ([run] aside), but it differs:\n  "
            + "\n  ".join(found)
            + "\nrun it with another --out, or go on without a settings file"
        )
    if wanted.run != study.settings.run:
        study.set_run(wanted)


@app.command()
def status(folder: Folder) -> None:
    """Show where a study stands, also while it runs."""
    from nas.display import outcome_line, status_table
    from nas.trial import Failure

    with _opened(folder) as study:
        console = _console()
        console.print(status_table(study))
        for trial in [t for t in study.trials if isinstance(t.outcome, Failure)][-5:]:
            console.print(outcome_line(study, trial), markup=False, highlight=False)


@app.command()
def front(
    folder: Folder, as_json: Annotated[bool, typer.Option("--json", help="Machine-readable.")] = False
) -> None:
    """Show the Pareto front."""
    from nas.display import front_json, front_table, legend

    with _opened(folder) as study:
        if as_json:
            typer.echo(json.dumps(front_json(study), indent=2))
        else:
            _console().print(front_table(study), legend(study), highlight=False)


@app.command()
def report(
    folder: Folder, out: Annotated[Path | None, typer.Option("--out", help="File to write.")] = None
) -> None:
    """Write one self-contained HTML page."""
    from nas.report import write_report
    from nas.report.of_study import report_view

    path = out or folder / "report.html"
    with _opened(folder) as study:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_report(path, report_view(study, path))
    typer.echo(f"wrote {path}")


@app.command()
def export(
    folder: Folder,
    knee: Knee = False,
    prefer: Prefer = None,
    ids: Ids = None,
    where: Where = None,
    out: Annotated[Path | None, typer.Option("--out", help="Folder to write to.")] = None,
    transfer: Annotated[
        Path | None,
        typer.Option(
            "--transfer",
            help="TOML file of other options of the space, e.g. input_shape = [3, 224, 224]: the same cells "
            "there, with first weights.",
        ),
    ] = None,
) -> None:
    """Write the front's models as JSON + safetensors, ONNX and .pt2, each reloaded and compared."""
    from rich.table import Table

    from nas.display import number
    from nas.evaluator import space_recipe
    from nas.export import export_transferred, export_trials, failures

    with _opened(folder) as study:
        trials = _selected(study, knee, prefer, ids, where)
        recipe = space_recipe(study.settings, study.space.input_shape, study.space.classes)
        if transfer is None:
            target = out or folder / "models"
            exported = export_trials(
                trials, study.space, study.folder, target, space_recipe=recipe, done=_written
            )
        else:
            target = out or folder / "transferred"
            recipe, space = _template(recipe, transfer)
            exported = []
            for trial in trials:
                exported.append(export_transferred(trial, space, target, study.settings.seed, recipe))
                _written(exported[-1])
    title = f"models in {target}"
    table = Table("trial", "file", "relative difference", "validation error", "check", title=title)
    for model in exported:
        for check in model.checks:
            error = number(check.error) if transfer is None else "not trained"
            cells = (number(check.relative_difference), error, "ok" if check.ok else "FAILED")
            table.add_row(str(model.trial_id), check.file, *cells)
    _console().print(table)
    if problems := failures(exported):
        _fail("\n".join(problems))


def _template(recipe: dict[str, Any], path: Path) -> tuple[dict[str, Any], SearchSpace]:
    """The study's space with the options of a TOML file instead of its own."""
    from nas import registry
    from nas.config import read_toml

    options = {**recipe["options"], **read_toml(path)}
    space: SearchSpace = registry.make("space", recipe["name"], options)
    return {"name": recipe["name"], "options": options}, space


@app.command()
def test(
    folder: Folder, knee: Knee = False, prefer: Prefer = None, ids: Ids = None, where: Where = None
) -> None:
    """Look at the test images, once, after the search: the error there is recorded."""
    from nas.display import number
    from nas.export import error_on_test_part
    from nas.weights import WeightsError

    problems = []
    with _opened(folder) as study:
        for trial in _selected(study, knee, prefer, ids, where):
            error = study.test_errors().get(trial.id)
            if error is None:
                try:
                    error = error_on_test_part(trial, study.space, study.folder)
                except WeightsError as problem:
                    problems.append(f"trial {trial.id}: {problem}")
                    continue
                study.record_test_error(trial.id, error)
            seen = trial.values.get("error")
            typer.echo(
                f"trial {trial.id}: test error {number(error)} % (accuracy {number(100 - error)} %)"
                + (f", validation error {number(seen)} %" if seen is not None else "")
            )
    if problems:
        _fail("\n".join(problems))


@app.command()
def verify(folder: Folder) -> None:
    """Replay the study's proposals from its settings and recorded outcomes."""
    with _opened(folder) as study:
        difference = study.verify()
        if difference is not None:
            _fail(difference)
        typer.echo(f"all {len(study.trials)} proposals replay")


def _written(model: Exported) -> None:
    typer.echo(f"trial {model.trial_id}: {model.folder}")


def _selected(
    study: Study, knee: bool, prefer: str | None, ids: str | None, where: list[str] | None
) -> list[Trial]:
    from nas.selection import preferences, select

    try:
        numbers = None if ids is None else [int(part) for part in ids.split(",")]
    except ValueError:
        _fail(f"--ids must be trial ids with commas between, e.g. 3,17, but got {ids!r}")
    return select(
        study.trials,
        study.front(),
        study.objectives,
        knee=knee,
        prefer=None if prefer is None else preferences(prefer),
        ids=numbers,
        where=where or (),
    )


def _opened(folder: Path) -> Study:
    from nas.study import Study

    return Study.open(folder)


def _console() -> Console:
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() or "COLUMNS" in os.environ else 160)


def _interrupt(number: int, frame: FrameType | None) -> NoReturn:
    """SIGTERM ends a run as Ctrl-C does."""
    raise KeyboardInterrupt


def _fail(message: str) -> NoReturn:
    typer.echo(f"error: {message}", err=True)
    raise typer.Exit(1)


def main() -> None:
    """Entry point. Errors end in one line."""
    from nas.trial import Failure

    sys.path.insert(0, str(Path.cwd()))  # "module:Class" may stand in the current folder
    try:
        app()
    except Exception as error:
        if os.environ.get("NAS_DEBUG"):
            raise
        ours = type(error).__module__.partition(".")[0] in ("nas", "search_spaces", "objectives")
        hint = "" if ours or isinstance(error, OSError) else "; set NAS_DEBUG=1 for the whole traceback"
        message = str(error) if ours else Failure.of(error).message
        typer.echo(f"error: {message}{hint}", err=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
