"""The searcher benchmark as a command, on made-up tables: what it writes, and how it goes on."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import bench_search
from bench import methods, record, running
from bench.methods import METHODS, Method
from bench.record import RecordError, Row
from bench.tables import BENCHMARKS, Table
from tests.benches import write_tables

SCRIPT = Path(bench_search.__file__)
QUICK = ["RandomSearch", "NSGA2"]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tables(tmp_path_factory.mktemp("tables"))


def options(data: Path, out: Path, *more: str) -> list[str]:
    """Of a short run; given again, the later option counts."""
    short = ["--methods", *QUICK, "--seeds", "2", "--budgets", "20", "40"]
    return ["--data", str(data), "--out", str(out), *short, *more]


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def finished(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "bench"
    bench_search.main(options(data, out, "--benchmark", "macro", "nasbench201-c10"))
    return out


# --- what it writes ----------------------------------------------------------------------------------


def test_one_row_a_method_seed_and_budget(finished: Path) -> None:
    assert sorted(path.name for path in finished.iterdir()) == [
        "macro.csv", "macro.html", "nasbench201-c10.csv", "nasbench201-c10.html",
    ]  # fmt: skip
    for name in ("macro", "nasbench201-c10"):
        rows = rows_of(finished / f"{name}.csv")
        assert tuple(rows[0]) == Row._fields
        assert len(rows) == len({tuple(row.values())[:4] for row in rows}) == 2 * 2 * 2
        assert {row["method"] for row in rows} == set(QUICK)
        assert all(row["evaluated"] == row["budget"] for row in rows)
        assert {(row["since"], row["budget"]) for row in rows} == {("0", "20"), ("20", "40")}
        assert all(0 <= float(row["gap"]) <= 1000 and 0 <= float(row["front_found"]) <= 1 for row in rows)
        assert all(0 < float(row["cpu_ms"]) < 1000 for row in rows)
        gaps = {(row["method"], row["seed"], row["budget"]): float(row["gap"]) for row in rows}
        assert all(gaps[method, seed, "40"] <= gaps[method, seed, "20"] for method, seed, _ in gaps)


def test_figures_are_those_of_a_run_by_hand(data: Path, finished: Path) -> None:
    table = Table(BENCHMARKS["macro"], data)
    run = running.drive(METHODS["NSGA2"].start(table, 1), table, 40)
    known = record.read(finished / "macro.csv")
    for budget in (20, 40):
        row = known[table.name, "NSGA2", 1, budget]
        assert table.judge.of(run.rows[:budget]) == pytest.approx(
            {name: getattr(row, name) for name in ("gap", "gap_cut", "front_found", "regret")}, abs=1e-6
        )


def test_what_is_printed(data: Path, finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bench_search.main(options(data, finished, "--benchmark", "macro", "nasbench201-c10"))
    printed = capsys.readouterr().out
    assert "over 2 seeds" in printed and "own CPU ms" in printed and "±" in printed
    assert "gap =" in printed and "regret in points" in printed
    assert "not compared: NSGA2 with pymoo-NSGA2-point" in printed
    bench_search.main(options(data, finished, "--metric", "front_found"))
    assert "share of the true front's points" in capsys.readouterr().out


# --- how it goes on ----------------------------------------------------------------------------------


def test_a_second_run_evaluates_nothing(data: Path, finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = (finished / "macro.csv").read_bytes()
    monkeypatch.setattr(running, "carry_out", None)  # calling it would fail
    bench_search.main(options(data, finished))
    assert (finished / "macro.csv").read_bytes() == before


def test_only_what_is_missing_is_run(data: Path, tmp_path: Path) -> None:
    path = tmp_path / "macro.csv"
    bench_search.main(options(data, tmp_path, "--seeds", "1", "--budgets", "20"))
    first = path.read_text()
    bench_search.main(options(data, tmp_path, "--seeds", "1", "--first-seed", "5", "--budgets", "20"))
    second = path.read_text()
    assert second.startswith(first)
    assert [row["seed"] for row in rows_of(path)] == ["0", "0", "5", "5"]
    bench_search.main(options(data, tmp_path, "--seeds", "1", "--budgets", "10", "20", "30"))
    third = path.read_text()
    assert third.startswith(second)
    assert [(row["since"], row["budget"]) for row in rows_of(path)[4:6]] == [("0", "10"), ("20", "30")]


def test_several_processes_give_the_same(data: Path, finished: Path, tmp_path: Path) -> None:
    bench_search.main(options(data, tmp_path, "--jobs", "2"))
    alone, together = (record.read(folder / "macro.csv") for folder in (finished, tmp_path))
    assert set(alone) == set(together)
    assert all(alone[key][:10] == together[key][:10] for key in alone)  # all but the time


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_a_killed_run_leaves_a_whole_file(data: Path, tmp_path: Path, jobs: str) -> None:
    path = tmp_path / "macro.csv"
    command = [sys.executable, str(SCRIPT), *options(data, tmp_path, "--seeds", "500", "--jobs", jobs)]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, env=os.environ | {"PYTHONPATH": _root()})
    try:
        end = time.monotonic() + 60
        while not path.exists() or len(record.read(path)) < 6:
            assert process.poll() is None and time.monotonic() < end
            time.sleep(0.01)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    known = record.read(path)
    assert 6 <= len(known) < 2000
    bench_search.main(options(data, tmp_path))
    after = record.read(path)
    assert all(after[key] == row for key, row in known.items())


def _root() -> str:
    return str(SCRIPT.parents[1])


def test_a_changed_table_is_not_mixed(data: Path, tmp_path: Path) -> None:
    (tmp_path / "tables").mkdir()
    changed = write_tables(tmp_path / "tables")
    bench_search.main(options(changed, tmp_path, "--benchmark", "nasbench201-pixel3", "--budgets", "20"))
    first = record.read(tmp_path / "nasbench201-pixel3.csv")
    latencies = changed / "nasbench201_latency.csv.gz"
    latencies.write_bytes(latencies.read_bytes() + b"\0")  # gzip reads over padding
    bench_search.main(options(changed, tmp_path, "--benchmark", "nasbench201-pixel3", "--budgets", "20"))
    both = record.read(tmp_path / "nasbench201-pixel3.csv")
    assert len(both) == 2 * len(first) and len({row.table for row in both.values()}) == 2


def test_several_runs_fill_one_file(tmp_path: Path) -> None:
    """What another process added since is kept."""
    path = tmp_path / "macro.csv"
    rows = [Row("t", "m", seed, 50, 50, 1.5, 2.5, 0.25, 0.125, 0, float("nan")) for seed in range(3)]
    record.add(path, rows[:1])
    record.add(path, rows[1:])
    assert [str(row) for row in record.read(path).values()] == [str(row) for row in rows]
    assert [p.name for p in tmp_path.iterdir()] == ["macro.csv"]


def test_a_file_of_another_version(data: Path, tmp_path: Path) -> None:
    (tmp_path / "macro.csv").write_text("table,method,gap\nt,m,1\n")
    with pytest.raises(RecordError, match=r"must have the columns table, .* but has table, method, gap"):
        record.read(tmp_path / "macro.csv")
    with pytest.raises(SystemExit, match="choose another --out"):
        bench_search.main(options(data, tmp_path))


def test_one_methods_failure_does_not_end_the_others(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(table: Table, seed: int) -> None:
        raise RuntimeError("no luck")

    monkeypatch.setitem(METHODS, "NSGA2", Method(broken))  # type: ignore[arg-type]
    with pytest.raises(SystemExit, match=r"2 runs failed.*\n.*seed 0: NSGA2 failed: RuntimeError: no luck"):
        bench_search.main(options(data, tmp_path))
    assert {row["method"] for row in rows_of(tmp_path / "macro.csv")} == {"RandomSearch"}


def test_a_cap_is_not_passed(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    capped = Method(METHODS["NSGA2"].start, cap=20)
    monkeypatch.setitem(METHODS, "NSGA2", capped)
    bench_search.main(options(data, tmp_path))
    budgets = {(row["method"], row["budget"]) for row in rows_of(tmp_path / "macro.csv")}
    assert budgets == {("NSGA2", "20"), ("RandomSearch", "20"), ("RandomSearch", "40")}


# --- what is chosen ----------------------------------------------------------------------------------


def test_methods_are_chosen_by_name_pattern_and_speed(monkeypatch: pytest.MonkeyPatch) -> None:
    slow = {name for name, method in METHODS.items() if method.slow}
    assert set(bench_search.selected([], False, METHODS)) == set(METHODS) - slow
    assert bench_search.selected(["pymoo-NSGA2-*", "NSGA2"], False, METHODS) == [
        "NSGA2", "pymoo-NSGA2-point", "pymoo-NSGA2-SBX", "pymoo-NSGA2-defaults",
    ]  # fmt: skip
    assert bench_search.selected(["Optuna-GP"], False, METHODS) == ["Optuna-GP"]
    monkeypatch.setattr(methods, "find_spec", lambda name: None)
    able = set(bench_search.selected([], True, METHODS))
    assert able == {name for name in METHODS if not name.startswith("BoTorch")}
    with pytest.raises(
        ValueError, match=r"BoTorch-qLogNEHVI needs botorch: pip install 'paretonas\[rivals\]'"
    ):
        bench_search.selected(["BoTorch-*"], False, METHODS)
    with pytest.raises(ValueError, match=r"methods must be of NSGA2, .* but got 'NSGA4'"):
        bench_search.selected(["NSGA4"], False, METHODS)


@pytest.mark.parametrize("wrong", [
    "--seeds 0", "--first-seed -1", "--budgets 0", "--jobs 0", "--methods NSGA4", "--benchmark micro",
])  # fmt: skip
def test_wrong_options(wrong: str, data: Path, tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as ended:
        bench_search.main(options(data, tmp_path / "out", *wrong.split()))
    assert ended.value.code == 2
    assert not (tmp_path / "out").exists()


def test_all_benchmarks(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = options(data, tmp_path, "--benchmark", "all", "--methods", "pymoo-MOEAD", "--budgets", "5")
    bench_search.main([*given, "--seeds", "1"])
    several = {
        "macro",
        "macro-3",
        *(f"nasbench201-{second}" for second in ("pixel3", "flops", "params", "4")),
    }
    assert {path.stem for path in tmp_path.iterdir()} == several
    assert capsys.readouterr().out.count("none of the methods chosen is for this table") == 3


@pytest.mark.parametrize("folder", [None, "empty"])
def test_a_missing_table_is_named(
    folder: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    if folder is None:
        monkeypatch.delenv("NAS_DATA", raising=False)
    else:
        monkeypatch.setenv("NAS_DATA", str(tmp_path / folder))
    with pytest.raises(
        SystemExit, match=r"no table at .*nasbench_macro.json.gz: set NAS_DATA .* --data FOLDER"
    ):
        bench_search.main(["--out", str(tmp_path / "out")])
    assert not (tmp_path / "out").exists()


def test_own_cost(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(bench_search, "COST_SEEDS", 1)
    bench_search.main(options(data, tmp_path / "out", "--cost", "--methods", "RandomSearch"))
    name, *figures = capsys.readouterr().out.splitlines()[-1].split()
    first, whole, early, late, ratio = map(float, figures)
    assert name == "RandomSearch" and min(first, whole, early, late) > 0
    assert ratio == pytest.approx(late / early, 0.1)
    assert not (tmp_path / "out").exists()
