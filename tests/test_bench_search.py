"""The searcher benchmark, on a table of NAS-Bench-Macro's shape with made-up accuracies."""

from __future__ import annotations

import csv
import gzip
import importlib.util
import json
import sys
from itertools import product
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).parents[1] / "scripts" / "bench_search.py"
METHODS = 16


@pytest.fixture(scope="module")
def bench() -> ModuleType:
    spec = importlib.util.spec_from_file_location("bench_search", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every larger block costs more and helps less the later it comes."""
    rows = {}
    for code in map("".join, product("012", repeat=8)):
        sizes = [int(digit) for digit in code]
        gain = sum(size**0.5 / (place + 2) for place, size in enumerate(sizes))
        flops = 10**7 * (1 + sum(size * (place + 1) for place, size in enumerate(sizes)))
        rows[code] = {"mean_acc": 80 + 4 * gain, "flops": flops}
    path = tmp_path_factory.mktemp("table") / "macro.json.gz"
    path.write_bytes(gzip.compress(json.dumps(rows).encode()))
    return path


@pytest.fixture(scope="module")
def finished(bench: ModuleType, table: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "bench"
    bench.main(["--table", str(table), "--seeds", "2", "--budgets", "20", "40", "--out", str(out)])
    return out


def test_one_row_a_method_seed_and_budget(bench: ModuleType, finished: Path) -> None:
    with (finished / "results.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["table", "method", "seed", "budget", "evaluated", "gap"]
    assert len(rows) == METHODS * 2 * 2
    assert {row["method"] for row in rows} == set(bench.METHODS)
    assert all(row["evaluated"] == row["budget"] for row in rows)
    assert all(0 <= float(row["gap"]) <= 1000 for row in rows)
    gaps = {(row["method"], row["seed"], row["budget"]): float(row["gap"]) for row in rows}
    assert all(gaps[method, seed, "40"] <= gaps[method, seed, "20"] for method, seed, _ in gaps)


def test_the_plot_is_one_self_contained_file(finished: Path) -> None:
    page = (finished / "results.html").read_text()
    assert "NSGA2" in page
    assert 'src="http' not in page


def test_a_second_run_evaluates_nothing(
    bench: ModuleType,
    table: Path,
    finished: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    before = (finished / "results.csv").read_bytes()
    monkeypatch.setattr(bench, "METHODS", dict.fromkeys(bench.METHODS))  # calling one would fail
    bench.main(["--table", str(table), "--seeds", "2", "--budgets", "20", "40", "--out", str(finished)])
    assert (finished / "results.csv").read_bytes() == before
    printed = capsys.readouterr().out
    assert "over 2 seeds" in printed
    assert all(method in printed for method in bench.METHODS)
    assert "±" in printed


def test_only_what_is_missing_is_run(bench: ModuleType, table: Path, tmp_path: Path) -> None:
    given = ["--table", str(table), "--budgets", "20", "--out", str(tmp_path), "--methods", "RandomSearch"]
    bench.main([*given, "--seeds", "1"])
    first = (tmp_path / "results.csv").read_text()
    bench.main([*given, "--seeds", "2"])
    both = (tmp_path / "results.csv").read_text()
    assert both.startswith(first)
    assert len(both.splitlines()) == len(first.splitlines()) + 1


def test_candidates_are_different_networks(bench: ModuleType, table: Path) -> None:
    whole = bench.Table(bench.BENCHMARKS["macro"], table)
    for method in bench.METHODS.values():
        codes = [code for code, _ in zip(method(whole, 3), range(60), strict=False)]
        assert len({whole.key(code) for code in codes}) == len(codes) == 60
    assert whole.gap(list(whole.rows)) == pytest.approx(0)


def test_cost_is_measured(bench: ModuleType, table: Path) -> None:
    whole = bench.Table(bench.BENCHMARKS["macro"], table)
    spent = bench.own_cost(whole, bench.SEARCHERS["NSGA2"], trials=30, seed=0)
    assert len(spent) == 30
    assert all(0 < milliseconds < 1000 for milliseconds in spent)


@pytest.mark.parametrize("folder", [None, "empty"])
def test_a_missing_table_is_named(
    bench: ModuleType,
    folder: str | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if folder is None:
        monkeypatch.delenv("NAS_DATA", raising=False)
        monkeypatch.chdir(tmp_path)
    else:
        monkeypatch.setenv("NAS_DATA", str(tmp_path / folder))
    with pytest.raises(SystemExit):
        bench.main(["--out", str(tmp_path / "out")])
    told = capsys.readouterr().err
    assert "set NAS_DATA" in told
    assert "--table PATH" in told
    assert not (tmp_path / "out").exists()


def test_nasbench201_is_read_by_written_form(bench: ModuleType, nas_data: Path) -> None:
    """15,625 rows that differ, the second objective from either file; what is exact agrees with the table."""
    path = nas_data / "nasbench201.csv.gz"
    for name, second in (("nasbench201-pixel3", "pixel3"), ("nasbench201-params", "params_c10")):
        table = bench.Table(bench.BENCHMARKS[name], path)
        assert table.objectives == ("error", second)
        assert len({table.key(code) for code in list(table.rows)[:500]}) == 500
        assert len(table.rows) == 15_625
        for known, value in table.benchmark.exact.items():
            arch = table.space.decode("333132")
            assert value(arch, table.space) == table.rows["333132"][known]
