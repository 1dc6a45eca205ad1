"""The record: committed before anything runs, whole after a kill, clear about damage."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from nas.architecture import Architecture, Graph, Node
from nas.store import Store, StoreError, lock_folder
from nas.trial import Failure, Proposal, Result, Trial

ARCH = Architecture("toy", (("net", Graph((Node(0, "input"),))),))


def proposal(name: str = "sample") -> Proposal:
    return Proposal(ARCH, (1, 2), name, 3, {"lr": 0.1})


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    made = Store.create(tmp_path, {"study": {"seed": 1}}, "digest")
    yield made
    made.close()


def test_what_is_written_is_read(store: Store, tmp_path: Path) -> None:
    store.add(Trial(0, proposal()))
    store.add(Trial(1, proposal("mutate")))
    store.finish(0, Failure("oom", "too large", {"params": 3.0}))
    store.set_fact("calibration", {"a": 1.5})
    with closing(Store.open(tmp_path)) as again:
        assert again.trials() == [
            Trial(0, proposal(), Failure("oom", "too large", {"params": 3.0})),
            Trial(1, proposal("mutate")),
        ]
        assert again.fact("calibration") == {"a": 1.5} and again.fact("settings") == {"study": {"seed": 1}}
        assert again.fact("nothing") is None and again.state() == (2, 1)


def test_floats_come_back_to_the_last_bit(store: Store) -> None:
    values = {"a": 0.1 + 0.2, "b": 1e-310, "c": 12345678901234567.0}
    store.add(Trial(0, proposal()))
    store.finish(0, Result(values))
    assert store.trials()[0].values == values


def test_weights_move_before_the_outcome_is_committed(store: Store, tmp_path: Path) -> None:
    store.add(Trial(0, proposal()))
    scratch = store.scratch(0)
    scratch.mkdir(parents=True)
    (scratch / "w.safetensors").write_bytes(b"weights")
    recorded = store.finish(0, Result({"error": 1.0}, weights="scratch/00000/w.safetensors"))
    assert isinstance(recorded, Result) and recorded.weights == "weights/00000.safetensors"
    assert (tmp_path / recorded.weights).read_bytes() == b"weights" and not scratch.exists()
    assert store.trials()[0].outcome == recorded


def test_lost_weights_leave_the_trial_open(store: Store) -> None:
    store.add(Trial(0, proposal()))
    with pytest.raises(FileNotFoundError):
        store.finish(0, Result({"error": 1.0}, weights="scratch/00000/gone.safetensors"))
    assert store.trials()[0].outcome is None


def test_one_writer(store: Store, tmp_path: Path) -> None:
    assert store.lock() and not store.lock()
    with pytest.raises(StoreError, match=r"is being run by another process \(pid \d+\)"):
        lock_folder(tmp_path)
    store.unlock()
    lock_folder(tmp_path).close()


def test_readers_see_what_a_writer_committed(store: Store, tmp_path: Path) -> None:
    store.lock()
    with closing(Store.open(tmp_path)) as reader:
        assert reader.trials() == []
        store.add(Trial(0, proposal()))
        assert reader.trials() == [Trial(0, proposal())]


def test_a_missing_or_half_written_study_is_none(tmp_path: Path) -> None:
    assert not Store.exists(tmp_path) and not Store.exists(tmp_path / "nowhere")
    (tmp_path / "study.db").touch()
    assert not Store.exists(tmp_path)
    sqlite3.connect(tmp_path / "study.db").execute("CREATE TABLE meta (key TEXT)").connection.close()
    assert not Store.exists(tmp_path)
    with pytest.raises(StoreError, match="must be the folder of a study"):
        Store.open(tmp_path)
    Store.create(tmp_path, {}, "digest").close()  # replaces it
    assert Store.exists(tmp_path)


def test_a_killed_creation_leaves_no_study(tmp_path: Path) -> None:
    code = (
        "import os, sqlite3, sys; from pathlib import Path; from nas.store import Store\n"
        "Store.set_fact = lambda *a: os.kill(os.getpid(), 9)\n"
        "Store.create(Path(sys.argv[1]), {}, '')"
    )
    assert subprocess.run([sys.executable, "-c", code, tmp_path], check=False).returncode == -9
    assert not Store.exists(tmp_path)
    Store.create(tmp_path, {}, "digest").close()
    assert Store.exists(tmp_path)


@pytest.mark.parametrize("position", [0, 4096])
def test_a_corrupt_file_is_named_and_kept(store: Store, tmp_path: Path, position: int) -> None:
    for index in range(50):
        store.add(Trial(index, proposal()))
    store.close()
    path = tmp_path / "study.db"
    broken = bytearray(path.read_bytes())
    broken[position : position + 4096] = b"x" * 4096
    path.write_bytes(broken)
    says = r"study\.db is damaged .*Nothing was changed"
    with pytest.raises(StoreError, match=says), closing(Store.open(tmp_path)) as again:
        again.trials()
    assert path.read_bytes() == broken


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("DELETE FROM trials WHERE id = 0", "trial 0 is missing"),
        ("UPDATE trials SET proposal = '{' WHERE id = 1", "trial 1"),
        ('UPDATE trials SET outcome = \'{"kind": "bored"}\' WHERE id = 1', "trial 1"),
        ("UPDATE meta SET value = '99' WHERE key = 'format'", "format 99"),
        ("UPDATE meta SET value = '{' WHERE key = 'format'", "damaged"),
    ],
)
def test_a_wrong_record_is_named(store: Store, tmp_path: Path, change: str, says: str) -> None:
    store.add(Trial(0, proposal()))
    store.add(Trial(1, proposal()))
    store._db.execute(change)
    with pytest.raises(StoreError, match=says), closing(Store.open(tmp_path)) as again:
        again.trials()


def test_a_file_where_the_folder_should_be(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(StoreError, match="must be a folder that can be written"):
            lock_folder(folder)


def test_sweep_removes_scratch_of_finished_trials_only(store: Store) -> None:
    trials = [Trial(0, proposal(), Failure("nan")), Trial(1, proposal())]
    for trial in trials:
        store.scratch(trial.id).mkdir(parents=True)
    store.sweep(trials)
    assert not store.scratch(0).exists() and store.scratch(1).exists()
