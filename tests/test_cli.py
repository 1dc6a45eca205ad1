"""The command line: each command on a real study, and every wrong use in one clear line."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from nas.cli import app, main
from nas.config import TEMPLATE, read_settings, settings_from_dict, settings_to_toml
from nas.export import load
from nas.study import Study
from tests.studies import tables


@pytest.fixture
def folder(finished_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of a finished study, its settings file beside it; the current folder is theirs."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "study.toml").write_text(settings_to_toml(settings_from_dict(tables())))
    return Path(shutil.copytree(finished_folder, tmp_path / "runs" / "a"))


def nas(*arguments: str) -> Result:
    return CliRunner().invoke(app, arguments)


def failing(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *arguments: str) -> str:
    """What `nas` says on stderr when it fails, run as users run it."""
    monkeypatch.setattr("sys.argv", ["nas", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 1
    said = capsys.readouterr().err
    assert said.startswith("error: ") and "Traceback" not in said
    return said


def test_init_writes_a_file_that_reads_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert nas("init").exit_code == 0
    assert Path("study.toml").read_text() == TEMPLATE and read_settings(Path("study.toml")).in_flight == 2
    again = nas("init")
    assert again.exit_code == 1 and "exists already" in again.output
    assert nas("init", "--force").exit_code == 0


def test_search_runs_and_continues(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("study.toml").write_text(settings_to_toml(settings_from_dict(tables())))
    first = nas("search", "study.toml", "--out", "runs/a", "--trials", "2")
    assert first.exit_code == 0 and "[2/2] trial 1:" in first.output and "Pareto front" in first.output
    assert nas("search", "study.toml", "--out", "runs/a", "--trials", "3").exit_code == 0
    assert nas("search", "--out", "runs/a", "--trials", "4").exit_code == 0  # without the file
    with Study.open("runs/a") as study:
        assert len(study.trials) == 4


def test_run_settings_may_change_and_nothing_else(folder: Path) -> None:
    changed = tables(trials=7, timeout_s=60)
    Path("study.toml").write_text(settings_to_toml(settings_from_dict(changed)))
    assert nas("search", "study.toml", "--out", "runs/a").exit_code == 0
    with Study.open(folder) as study:
        assert len(study.trials) == 7 and study.settings.run.timeout_s == 60
    changed["searcher"]["population"] = 5
    Path("study.toml").write_text(settings_to_toml(settings_from_dict(changed)))
    refused = nas("search", "study.toml", "--out", "runs/a")
    assert refused.exit_code == 1 and "searcher.population: 3 in the study, 5 now" in refused.output


def test_status_front_verify(folder: Path) -> None:
    status = nas("status", "runs/a")
    assert status.exit_code == 0 and "6 of 6" in status.output and "6 / 0 / 0" in status.output
    assert nas("verify", "runs/a").output == "all 6 proposals replay\n"
    assert "* knee" in nas("front", "runs/a").output
    front = json.loads(nas("front", "runs/a", "--json").output)
    with Study.open(folder) as study:
        assert [entry["id"] for entry in front] == [trial.id for trial in study.front()]
        assert [entry["values"] for entry in front] == [dict(trial.values) for trial in study.front()]
        assert sum(entry["knee"] for entry in front) == 1


def test_the_test_part_is_looked_at_once(folder: Path) -> None:
    first = nas("test", "runs/a", "--knee")
    assert first.exit_code == 0 and "test error" in first.output
    for part in (folder / "data").glob("test_*.npy"):
        part.unlink()
    assert nas("test", "runs/a", "--knee").output == first.output  # from the record
    assert "test error" in nas("front", "runs/a").output


def test_export_and_report(folder: Path) -> None:
    exported = nas("export", "runs/a", "--knee")
    assert exported.exit_code == 0 and "FAILED" not in exported.output
    (model,) = (folder / "models").iterdir()
    names = {path.name for path in model.iterdir()}
    assert {"architecture.json", "weights.safetensors", "model.onnx", "model.pt2", "check.json"} <= names
    assert load(model).state_dict().keys() == load(model).state_dict().keys()  # the space is made again
    assert (model / "weights.safetensors").stat().st_mode == (model / "check.json").stat().st_mode
    assert nas("report", "runs/a").exit_code == 0
    assert model.name in (folder / "report.html").read_text()


def test_an_export_that_fails_ends_with_an_error(folder: Path) -> None:
    with Study.open(folder) as study:
        front = study.front()
    weights = folder / front[0].outcome.weights
    weights.write_bytes(weights.read_bytes()[:-50])
    exported = nas("export", "runs/a")
    assert exported.exit_code == 1 and weights.name in exported.output
    assert len(list((folder / "models").glob("*/model.onnx"))) == len(front) - 1


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["status", "nowhere"], "must be the folder of a study"),
        (["search", "nowhere.toml", "--out", "b"], "nowhere.toml must be readable"),
        (["search", "--out", "b"], "holds no study to go on with"),
        (["search", "study.toml", "--out", "b", "--workers", "-1"], "`--workers >= 0` must hold"),
        (["search", "study.toml", "--out", "b", "--trials", "0"], "`--trials >= 1` must hold"),
        (["search", "study.toml", "--out", "study.toml/b"], "must be a folder that can be written"),
        (["search", "study.toml", "--out", "."], "must be empty or hold a study"),
        (["export", "runs/a", "--ids", "x"], "--ids must be trial ids"),
        (["export", "runs/a", "--ids", "99"], "99 does not exist"),
        (["export", "runs/a", "--where", "eror<2"], "did you mean 'error'"),
        (["export", "runs/a", "--where", "error<-1"], "must hold for a member of the front"),
    ],
)
def test_wrong_use(
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    says: str,
) -> None:
    assert says in failing(capsys, monkeypatch, *arguments)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[serach]", "unknown key `serach`"),
        ("[run]\ntrails = 3", "did you mean `trials`?"),
        ("[run]\ntrials = 0", "`run.trials >= 1` must hold"),
        ("[[objectives]]\nname = 'params'\nlimit = 10", "no architecture meets params <= 10"),
        ("[[objectives]]\nname = 'latency'", "did you mean 'latency_ms'"),
        ("seed = ", "must be TOML"),
        ("[data]\nname = 'npz'\npath = 'one_class.npz'", "class"),
        ("[data]\nname = 'npz'\npath = 'nan.npz'", "finite"),
    ],
)
def test_wrong_settings(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    text: str,
    says: str,
) -> None:
    import numpy as np

    monkeypatch.chdir(tmp_path)
    x, y = np.zeros((40, 8, 8), np.float32), np.arange(40) % 2
    np.savez("one_class.npz", x_train=x, y_train=y * 0)
    np.savez("nan.npz", x_train=np.where(np.arange(40)[:, None, None] == 7, np.nan, x), y_train=y)
    Path("study.toml").write_text(text)
    assert says in failing(capsys, monkeypatch, "search", "study.toml", "--out", "b", "--workers", "0")


def test_a_damaged_study_is_an_error(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "study.db").write_bytes(b"not a database" * 1000)
    before = (folder / "study.db").read_bytes()
    assert "study.db is damaged" in failing(capsys, monkeypatch, "status", "runs/a")
    assert (folder / "study.db").read_bytes() == before


def test_two_writers(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with Study.open(folder) as study:
        study.ask()
        said = failing(capsys, monkeypatch, "search", "--out", "runs/a")
        assert "is being run by another process (pid" in said
        assert nas("status", "runs/a").exit_code == 0  # looking is free


OWN = """
from search_spaces.chain import ChainSpace
from nas import Objective
from nas.searchers import RandomSearch
class Tiny(ChainSpace):
    name = "tiny"
    def __init__(self, input_shape, classes):
        super().__init__(input_shape, classes, depth=(1, 1), widths=(4,), stem=4, head=0)
def depth(): return Objective("depth", exact=lambda arch, space: float(len(arch.graph())))
class Mine(RandomSearch): pass
"""


def test_components_of_ones_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("own_parts.py").write_text(OWN)
    own = tables(workers=1) | {
        "space": {"name": "own_parts:Tiny"},
        "searcher": {"name": "own_parts:Mine"},
        "objectives": [{"name": "error"}, {"name": "own_parts:depth"}],
    }
    Path("study.toml").write_text(settings_to_toml(settings_from_dict(own)))
    monkeypatch.setattr("sys.argv", ["nas", "search", "study.toml", "--out", "b", "--trials", "2"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0 and "depth" in capsys.readouterr().out


def test_version() -> None:
    assert nas("--version").output.startswith("paretonas 0.")


def test_errors_of_parts_of_ones_own_end_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("raising_parts.py").write_text(
        "from nas import Objective\ndef odd(): return Objective('odd', exact=lambda arch, space: 1 / 0)\n"
    )
    own = tables() | {"objectives": [{"name": "error"}, {"name": "raising_parts:odd"}]}
    Path("study.toml").write_text(settings_to_toml(settings_from_dict(own)))
    said = failing(capsys, monkeypatch, "search", "study.toml", "--out", "b")
    assert "ZeroDivisionError: division by zero (raising_parts.py:2); set NAS_DEBUG=1" in said


def test_measured_limits_are_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    own = tables() | {"objectives": [{"name": "error", "limit": 1e-6}, {"name": "params"}]}
    Path("study.toml").write_text(settings_to_toml(settings_from_dict(own)))
    said = nas("search", "study.toml", "--out", "b", "--trials", "2")
    assert said.exit_code == 1 and "(beyond error <= 1e-06)" in said.output
    assert "2 of those done" in nas("status", "b").output
