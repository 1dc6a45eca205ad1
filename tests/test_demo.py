"""The demo as users run it, killed on the way; and the searchers against pymoo's on the real table."""

from __future__ import annotations

import csv
import importlib.util
import json
import signal
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest

from nas.study import Study

ROOT = Path(__file__).parents[1]
NAS = [sys.executable, "-m", "nas.cli"]
EPOCHS = 9 * 1 + 3 * 2 + 1 * 6 + 3 * 3 + 1 * 6 + 3 * 9
"""Of one candidate: nine, three, one configurations to 1, 3, 9 epochs; three and one to 3, 9; three to 9."""


@pytest.mark.slow
def test_the_demo_killed_three_times(tmp_path: Path) -> None:
    out = str(tmp_path / "demo")
    search = [*NAS, "search", str(ROOT / "scripts" / "demo.toml"), "--out", out]
    rng = np.random.default_rng()  # other moments each time
    kept: dict[int, object] = {}
    for _ in range(3):
        with subprocess.Popen(search, start_new_session=True) as driver:
            time.sleep(rng.uniform(10, 40))
            driver.send_signal(signal.SIGKILL)
        with Study.open(out) as study:
            now = {trial.id: trial.outcome for trial in study.trials if trial.outcome is not None}
            assert {number: now.get(number) for number in kept} == kept
            kept = now
    subprocess.run(search, check=True, timeout=900)
    for command in (["test", out, "--knee"], ["export", out], ["report", out], ["verify", out]):
        subprocess.run([*NAS, *command], check=True)
    front = json.loads(subprocess.run([*NAS, "front", out, "--json"], check=True, capture_output=True).stdout)
    with Study.open(out) as study:
        assert len(study.trials) >= 24 and all(trial.ok for trial in study.trials)
        assert all(trial.outcome.cost["epochs"] == EPOCHS for trial in study.trials)
        assert [entry["id"] for entry in front] == [trial.id for trial in study.front()]
        assert set(study.remeasured()) == {entry["id"] for entry in front}
        models = {path.name for path in (study.folder / "models").iterdir()}
    assert models == {f"trial-{entry['id']:05d}" for entry in front}
    assert min(entry["values"]["error"] for entry in front) < 3


@pytest.mark.slow
def test_nsga2_is_not_behind_pymoos(nas_data: Path, tmp_path: Path) -> None:
    """20 seeds on NAS-Bench-Macro: at 100, 200, 400 the mean gap is not two standard errors larger."""
    spec = importlib.util.spec_from_file_location("bench_search", ROOT / "scripts" / "bench_search.py")
    bench = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = bench
    spec.loader.exec_module(bench)
    methods = ["NSGA2", *(name for name in bench.METHODS if name.startswith("pymoo-NSGA2"))]
    table = nas_data / "nasbench_macro.json.gz"
    bench.main(["--table", str(table), "--methods", *methods, "--out", str(tmp_path)])
    gaps: dict[tuple[str, int], list[float]] = defaultdict(list)
    with (tmp_path / "results.csv").open() as file:
        for row in csv.DictReader(file):
            gaps[row["method"], int(row["budget"])].append(float(row["gap"]))
    for rival in methods[1:]:
        for budget in (100, 200, 400):
            ours, theirs = np.array(gaps["NSGA2", budget]), np.array(gaps[rival, budget])
            assert len(ours) == len(theirs) == 20
            error = np.sqrt(ours.var(ddof=1) / 20 + theirs.var(ddof=1) / 20)
            assert ours.mean() - theirs.mean() <= 2 * error
