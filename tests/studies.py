"""Small studies that train for real, shared by several test modules."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nas.study import Study


def tables(**run: Any) -> dict[str, Any]:
    """Six tiny candidates on 300 digits, 11 epochs each: no measured latency, so values are reproducible."""
    return {
        "study": {"seed": 3, "in_flight": 2},
        "space": {"name": "chain", "depth": [1, 2], "widths": [4, 8], "stem": 4, "head": 0},
        "searcher": {"name": "nsga2", "population": 3},
        "objectives": [{"name": "error"}, {"name": "params"}, {"name": "macs"}],
        "data": {"name": "digits", "limit": 300},
        "hyperband": {"max_epochs": 3},
        "run": {"trials": 6, "workers": 0, "timeout_s": 120, **run},
    }


EPOCHS = 3 * 1 + 1 * 2 + 2 * 3
"""Of one candidate: bracket 1 trains three for one epoch, then one for two more; bracket 0 two for three."""


def facts(study: Study) -> list[Any]:
    """What must be the same, value for value, however often a study was stopped."""
    return [
        (
            trial.proposal,
            dict(trial.values),
            trial.outcome.hparams,
            trial.outcome.curve,
            trial.outcome.cost["epochs"],
            trial.outcome.weights_sha256,
        )
        for trial in study.trials
    ]


def finished(folder: Path, **run: Any) -> Study:
    """A study that ran to its end in this process."""
    study = Study.create(folder, tables(**run))
    assert study.run() is None
    return study
