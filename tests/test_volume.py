"""The log of the hypervolume: against a slow reference, in the store, and as an end of a run."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import numpy as np
import pytest

from nas import Failure, Objective, Study, pareto
from nas.searchers import RandomSearch
from nas.volume import VolumeLog
from search_spaces.nasbench_macro import NASBenchMacroSpace
from tests.studies import tables


@pytest.mark.parametrize("objectives", [1, 2, 3, 4])
def test_the_log_against_a_slow_reference(objectives: int) -> None:
    """Coarse values, so that rows repeat; some are beyond the reference, some not finite."""
    for seed in range(20):
        rng = np.random.default_rng(seed)
        rows = rng.integers(6, size=(60, objectives)).astype(float)
        rows[rng.random(60) < 0.2] = np.nan
        reference = np.full(objectives, 4.5)
        log = VolumeLog(reference)
        for row in rows:
            log.add(row)
        slow = [pareto.hypervolume(rows[: i + 1], reference) for i in range(len(rows))]
        assert log.values == pytest.approx(slow)
        grown = [i for i, value in enumerate(slow) if value > (slow[i - 1] if i else 0.0)]
        assert log.grown == (grown[-1] if grown else -1)
        for seen in range(61):
            for patience in (1, 5, 30):
                since = [i for i in grown if seen - patience <= i < seen]
                assert log.stalled(seen, patience) == (seen > patience and not since)
    assert not log.stalled(61, 1)  # that many are not known


def test_history_of_a_study_in_memory() -> None:
    space = NASBenchMacroSpace()
    params = Objective("params", exact=lambda arch, space: space.cost(arch).params)
    study = Study.in_memory(space, [Objective("error", limit=50.0), params], RandomSearch(), in_flight=3)
    rng = np.random.default_rng(0)
    for n in range(40):
        trial = study.ask()
        while not hasattr(trial, "architecture"):
            study.tell(trial.trials[0], {"error": float(rng.uniform(0, 60))})
            trial = study.ask()
        if n == 20:
            assert len(study.hypervolume_history()) == 18
        if n < 3:
            assert study.hypervolume_history() == []
            assert study.last_growth() is None
            assert not study.stalled(1)
    for trial in study.trials:
        if trial.outcome is None:
            study.tell(trial, Failure("crash") if trial.id % 2 else {"error": 1.0})
    history = study.hypervolume_history()
    assert len(history) == 40
    assert history == sorted(history)
    assert history[-1] == pytest.approx(study.hypervolume())
    grown = study.last_growth()
    assert grown is not None
    assert history[grown] > history[grown - 1]
    assert history[grown] == history[-1]


def test_a_run_ends_when_nothing_grows_whatever_the_workers(tmp_path: Path) -> None:
    given = tables(trials=30, patience=2) | {
        "study": {"seed": 3, "in_flight": 2, "reference": {"params": 1e6, "macs": 1e9}},
        "searcher": "random",
        "objectives": [{"name": "params"}, {"name": "macs"}],
        "hyperband": {"max_epochs": 1},
    }
    counts = set()
    for workers in (0, 2):
        with Study.create(tmp_path / str(workers), given) as study:
            ended = study.run(workers=workers)
            assert ended is not None
            assert ended.reason == "2 trials in a row did not enlarge the hypervolume"
            count, grown, history = len(study.trials), study.last_growth(), study.hypervolume_history()
            assert grown is not None
            assert 3 <= count <= grown + 1 + 2 + 2 < 30  # patience, and what was in flight
            assert study.run() == ended  # again: nothing new
            assert len(study.trials) == count
        with sqlite3.connect(tmp_path / str(workers) / "study.db") as db:
            rows = db.execute("SELECT trial, value FROM hypervolume ORDER BY trial").fetchall()
        assert rows == list(enumerate(history))
        counts.add(count)
    assert len(counts) == 1
