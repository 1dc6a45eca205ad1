"""A driver killed by SIGKILL at random moments: the study goes on as if nothing had happened."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from nas.config import settings_from_dict, settings_to_toml
from nas.store import Store
from nas.study import Study
from tests.studies import EPOCHS, facts, tables

LONGEST_RUNG = 3


@pytest.mark.parametrize("workers", [1, 2])
def test_killed_three_times(finished_folder: Path, tmp_path: Path, workers: int) -> None:
    rng = np.random.default_rng(workers)
    (tmp_path / "study.toml").write_text(settings_to_toml(settings_from_dict(tables())))
    folder = tmp_path / "study"
    command = [sys.executable, "-m", "nas.cli", "search", "study.toml", "--out", "study"]
    kept: list[object] = []
    for attempt in range(4):
        with (tmp_path / f"log{attempt}").open("w") as log:
            driver = subprocess.Popen(
                [*command, "--workers", str(workers)],
                cwd=tmp_path,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            if attempt < 3:
                _wait_for_scratch(folder, driver)
                time.sleep(rng.uniform(0, 1.5))
                driver.kill()
            status = driver.wait(timeout=120)
        _group_ends(driver.pid)
        assert status == (0 if attempt == 3 else -signal.SIGKILL) or status == 0, log.name
        with Study.open(folder) as study:
            done = [fact for trial, fact in zip(study.trials, _facts(study), strict=True) if trial.ok]
            assert [fact for fact in done if fact in kept] == kept  # nothing that was finished is lost
            kept = done
            assert study.verify() is None
    with Study.open(folder) as study, Study.open(finished_folder) as undisturbed:
        assert facts(study) == facts(undisturbed)
        repeated = [trial.outcome.cost["epochs_repeated"] for trial in study.trials]
        assert sum(repeated) <= 3 * workers * LONGEST_RUNG  # a kill costs the rung that was running
        assert all(trial.outcome.cost["epochs"] == EPOCHS for trial in study.trials)


def _facts(study: Study) -> list[object]:
    return [trial.outcome for trial in study.trials]


def _wait_for_scratch(folder: Path, driver: subprocess.Popen[bytes]) -> None:
    """Until a candidate trains, or the search is over."""
    deadline = time.monotonic() + 60
    while driver.poll() is None and time.monotonic() < deadline:
        if Store.exists(folder) and any((folder / "scratch").glob("*/epochs.log")):
            return
        time.sleep(0.05)


def _group_ends(group: int) -> None:
    """No process of a killed driver stays behind to write into its folder."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return
        time.sleep(0.05)
    raise AssertionError(f"processes of group {group} outlived their driver")
