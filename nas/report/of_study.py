"""A study as its report shows it."""

from __future__ import annotations

import os
from pathlib import Path

from nas.config import settings_to_toml
from nas.data import read_info
from nas.report import ReportView
from nas.study import Study


def report_view(study: Study, path: Path) -> ReportView:
    """What `write_report` needs, from a study in a folder.

    Args:
        path: of the page; links to exported models are relative to it.
    """
    info = read_info(study.folder / "data")
    parts = ", ".join(f"{count:,} {part}" for part, count in info.counts.items())
    models = {trial.id: study.folder / "models" / f"trial-{trial.id:05d}" for trial in study.trials}
    knee = study.knee()
    return ReportView(
        title=f"Study {study.folder.resolve().name}",
        objectives=study.objectives,
        trials=study.trials,
        front=[trial.id for trial in study.front()],
        knee=knee.id if knee else None,
        reference=study.reference(),
        remeasured=study.remeasured(),
        settings_toml=settings_to_toml(study.settings),
        data={
            "data set": info.name,
            "examples": parts,
            "input shape": " x ".join(map(str, info.input_shape)),
            "classes": ", ".join(info.classes[:20]) + (" …" if len(info.classes) > 20 else ""),
        },
        notes=notes(study),
        test=study.test_errors(),
        models={
            trial_id: os.path.relpath(folder, path.parent)
            for trial_id, folder in models.items()
            if folder.is_dir()
        },
    )


def notes(study: Study) -> list[str]:
    """What a reader of the results should know."""
    found = []
    if len(machines := study.machines()) > 1:
        found.append(
            f"Latency was measured on {len(machines)} machines ({'; '.join(machines)}): anchors remove their "
            "common scale only, so compare values across them with care."
        )
    if failure := study.remeasure_failure():
        found.append(f"The front could not be measured again: {failure}")
    return found
