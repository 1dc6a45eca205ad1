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

HEEDING = "import signal, nas.cli; signal.signal(signal.SIGINT, signal.default_int_handler); nas.cli.main()"
"""`nas` that heeds interrupts, also where the tests run in the background, which inherits to ignore them."""


@pytest.mark.parametrize("workers", [1, 2])
def test_killed_three_times(finished_folder: Path, tmp_path: Path, workers: int) -> None:
    rng = np.random.default_rng(workers)
    (tmp_path / "study.toml").write_text(settings_to_toml(settings_from_dict(tables())))
    folder = tmp_path / "study"
    command = [sys.executable, "-m", "nas.cli", "search", "study.toml", "--out", "study"]
    kept: list[object] = []
    killed = 0
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
        assert status in ((0,) if attempt == 3 else (0, -signal.SIGKILL)), log.name  # 0: it was quicker
        killed += status == -signal.SIGKILL
        with Study.open(folder) as study:
            done = [fact for trial, fact in zip(study.trials, _facts(study), strict=True) if trial.ok]
            assert [fact for fact in done if fact in kept] == kept  # nothing that was finished is lost
            kept = done
            assert study.verify() is None
    with Study.open(folder) as study, Study.open(finished_folder) as undisturbed:
        assert facts(study) == facts(undisturbed)
        repeated = [trial.outcome.cost["epochs_lost"] for trial in study.trials]
        assert killed >= 1 and min(repeated) >= 0
        assert sum(repeated) <= 3 * workers * LONGEST_RUNG  # a kill costs the rung that was running
        costs = [trial.outcome.cost for trial in study.trials]
        assert all(cost["epochs"] == EPOCHS + cost["epochs_distilled"] for cost in costs)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_search_says_how_to_go_on(tmp_path: Path, number: signal.Signals) -> None:
    (tmp_path / "study.toml").write_text(settings_to_toml(settings_from_dict(tables(workers=1, trials=500))))
    with subprocess.Popen(
        [sys.executable, "-c", HEEDING, "search", "study.toml", "--out", "study"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        text=True,
    ) as driver:
        try:
            _wait_for_scratch(tmp_path / "study", driver)
            os.killpg(driver.pid, number)  # as a terminal does: the workers get it too
            said, _ = driver.communicate(timeout=60)
        finally:
            driver.kill()
    assert driver.returncode == 130, said
    assert "nothing is lost: nas search --out study goes on" in said and "Traceback" not in said
    _group_ends(driver.pid)
    with Study.open(tmp_path / "study") as study:
        assert all(trial.outcome is None or trial.ok for trial in study.trials)


def test_a_script_needs_no_main_guard(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(
        f"from nas import Study\nstudy = Study.create('study', {tables(workers=2, trials=2)!r})\n"
        "study.run()\nprint('front', len(study.front()) > 0)\n"
    )
    ran = subprocess.run(
        [sys.executable, "script.py"], cwd=tmp_path, capture_output=True, text=True, check=True, timeout=120
    )
    assert ran.stdout == "front True\n" and not ran.stderr


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
