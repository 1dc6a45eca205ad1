"""The record of a study: one SQLite file with one writer, and a folder of weights.

study.db        settings and facts (meta), proposals and outcomes (trials), hypervolume after each trial
weights/        the winner of each trial, moved here before its outcome is committed
scratch/        what an open trial's worker writes: rung checkpoints
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

from nas.architecture import InvalidArchitecture
from nas.trial import (
    Outcome,
    Result,
    Trial,
    outcome_from_dict,
    outcome_to_dict,
    proposal_from_dict,
    proposal_to_dict,
)
from nas.weights import momentum_file

FORMAT = 1
"""Version of the tables; a later one that cannot read them says so."""

_SCHEMA = (
    "CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT",
    "CREATE TABLE trials (id INTEGER PRIMARY KEY, proposal TEXT NOT NULL, outcome TEXT) STRICT",
    "CREATE TABLE hypervolume (trial INTEGER PRIMARY KEY, value REAL NOT NULL) STRICT",
)


class StoreError(RuntimeError):
    """The folder, the file or a record cannot be used; the message says which, why, and what to do."""


class Store:
    """One study's folder. Anyone may look; whoever writes takes the lock."""

    def __init__(self, folder: Path, connection: sqlite3.Connection) -> None:
        self.folder = folder
        self._db = connection
        self._lock: IO[str] | None = None

    # --- opening -----------------------------------------------------------------------------------

    @classmethod
    def exists(cls, folder: Path) -> bool:
        """Whether the folder holds a study that was created to the end."""
        path = folder / "study.db"
        if not path.is_file() or path.stat().st_size == 0:
            return False
        with _errors(path):
            connection = _connect(path)
            try:
                query = "SELECT count(*) FROM sqlite_master WHERE name IN ('meta', 'trials')"
                return bool(connection.execute(query).fetchone()[0] == 2)
            finally:
                connection.close()

    @classmethod
    def create(cls, folder: Path, settings: dict[str, Any], data_sha256: str) -> Store:
        """A new study, in one transaction; a half-written one is replaced. The caller holds `lock_folder`."""
        path = folder / "study.db"
        with _errors(path):
            for leftover in folder.glob("study.db*"):
                leftover.unlink()
            store = cls(folder, _connect(path, create=True))
            store._db.execute("PRAGMA journal_mode = WAL")
            store._db.execute("BEGIN IMMEDIATE")
            for statement in _SCHEMA:
                store._db.execute(statement)
            store.set_fact("format", FORMAT)
            store.set_fact("settings", settings)
            store.set_fact("data_sha256", data_sha256)
            store._db.execute("COMMIT")
        return store

    @classmethod
    def open(cls, folder: Path) -> Store:
        """The study of this folder, also while another process runs it.

        Raises:
            StoreError: there is none, it is damaged, or of another version.
        """
        if not cls.exists(folder):
            raise StoreError(f"{folder} must be the folder of a study, but it holds no complete study.db")
        path = folder / "study.db"
        with _errors(path):
            store = cls(folder, _connect(path))
            problems = [row[0] for row in store._db.execute("PRAGMA quick_check(3)")]
            if problems != ["ok"]:
                store.close()
                raise StoreError(_damaged(path, "; ".join(problems)))
            found = store.fact("format")
        if found != FORMAT:
            store.close()
            raise StoreError(
                f"{path} has format {found}, but this version reads format {FORMAT}: use the version of "
                "paretonas that wrote it"
            )
        return store

    def lock(self) -> bool:
        """Becomes the one writer.

        Returns:
            Whether the lock is new: others may have written before.

        Raises:
            StoreError: another process, or another study object of this one, writes.
        """
        if self._lock is not None:
            return False
        self._lock = lock_folder(self.folder)
        return True

    def unlock(self) -> None:
        """Lets the next writer in."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def close(self) -> None:
        self._db.close()
        self.unlock()

    # --- facts -------------------------------------------------------------------------------------

    def fact(self, key: str) -> Any:
        """A value of the meta table, None if there is none."""
        with _errors(self.folder / "study.db"):
            row = self._db.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
            return None if row is None else json.loads(row[0])

    def set_fact(self, key: str, value: Any) -> None:
        with _errors(self.folder / "study.db"):
            self._db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, json.dumps(value)))

    # --- trials ------------------------------------------------------------------------------------

    def add(self, trial: Trial) -> None:
        """Commits a trial, open, or with the outcome it was born with."""
        outcome = None if trial.outcome is None else json.dumps(outcome_to_dict(trial.outcome))
        with _errors(self.folder / "study.db"):
            self._db.execute(
                "INSERT INTO trials VALUES (?, ?, ?)",
                (trial.id, json.dumps(proposal_to_dict(trial.proposal)), outcome),
            )

    def finish(self, trial_id: int, outcome: Outcome) -> Outcome:
        """Moves the weights into place, commits the outcome, and clears the trial's scratch folder.

        Returns:
            The outcome as recorded, its weights' path relative to the study's folder.
        """
        if isinstance(outcome, Result) and outcome.weights is not None:
            target = Path("weights") / f"{trial_id:05d}.safetensors"
            (self.folder / "weights").mkdir(exist_ok=True)
            momentum = momentum_file(self.folder / outcome.weights)
            if momentum.exists():  # first: without its weights it means nothing
                momentum.replace(momentum_file(self.folder / target))
            (self.folder / outcome.weights).replace(self.folder / target)
            outcome = replace(outcome, weights=target.as_posix())
        with _errors(self.folder / "study.db"):
            self._db.execute(
                "UPDATE trials SET outcome = ? WHERE id = ? AND outcome IS NULL",
                (json.dumps(outcome_to_dict(outcome)), trial_id),
            )
        shutil.rmtree(self.scratch(trial_id), ignore_errors=True)
        return outcome

    def log_volume(self, values: Sequence[float]) -> None:
        """Adds what is new of the hypervolume after trial 0, 1, …; it follows from the trials, for others to
        read."""
        with _errors(self.folder / "study.db"):
            known = self._db.execute("SELECT count(*) FROM hypervolume").fetchone()[0]
            self._db.executemany("INSERT INTO hypervolume VALUES (?, ?)", list(enumerate(values))[known:])

    def trials(self) -> list[Trial]:
        """All trials in id order.

        Raises:
            StoreError: a record cannot be read, or ids have gaps.
        """
        path = self.folder / "study.db"
        found = []
        with _errors(path):
            for index, (trial_id, proposal, outcome) in enumerate(
                self._db.execute("SELECT id, proposal, outcome FROM trials ORDER BY id")
            ):
                if trial_id != index:
                    raise StoreError(_damaged(path, f"trial {index} is missing"))
                found.append(_read_trial(path, trial_id, proposal, outcome))
        return found

    def state(self) -> tuple[int, int]:
        """How many trials are recorded, and how many have ended."""
        with _errors(self.folder / "study.db"):
            row = self._db.execute("SELECT count(*), count(outcome) FROM trials").fetchone()
        return row[0], row[1]

    def scratch(self, trial_id: int) -> Path:
        """The folder that only the worker of this trial writes into."""
        return self.folder / "scratch" / f"{trial_id:05d}"

    def sweep(self, trials: Sequence[Trial]) -> None:
        """Removes what a killed driver left of trials that were finished."""
        for trial in trials:
            if trial.outcome is not None and self.scratch(trial.id).exists():
                shutil.rmtree(self.scratch(trial.id), ignore_errors=True)


def lock_folder(folder: Path) -> IO[str]:
    """Takes the study's writer lock; it goes with the returned file, or with the process.

    Raises:
        StoreError: the folder cannot be written, or another process holds the lock.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / "study.lock").open("a+")
    except OSError as error:
        raise StoreError(
            f"{folder} must be a folder that can be written, but {error.strerror}: choose another --out"
        ) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        lock.seek(0)
        owner = lock.read().strip() or "unknown"
        lock.close()
        raise StoreError(
            f"{folder} is being run by another process ({owner}): wait for it, or stop it first"
        ) from error
    lock.truncate(0)
    lock.write(f"pid {os.getpid()}")
    lock.flush()
    return lock


def _connect(path: Path, create: bool = False) -> sqlite3.Connection:
    """A connection in autocommit mode; `synchronous` is FULL, SQLite's default."""
    address = f"{path.resolve().as_uri()}?mode={'rwc' if create else 'rw'}"
    return sqlite3.connect(address, uri=True, isolation_level=None, timeout=30)


def _read_trial(path: Path, trial_id: int, proposal: str, outcome: str | None) -> Trial:
    try:
        return Trial(
            trial_id,
            proposal_from_dict(json.loads(proposal)),
            None if outcome is None else outcome_from_dict(json.loads(outcome)),
        )
    except (KeyError, TypeError, ValueError, InvalidArchitecture) as error:
        raise StoreError(_damaged(path, f"trial {trial_id}: {type(error).__name__}: {error}")) from error


def _damaged(path: Path, what: str) -> str:
    return (
        f"{path} is damaged ({what}). Nothing was changed; the weights beside it are whole. Put back a copy "
        "of study.db, or start a new study in another folder"
    )


@contextmanager
def _errors(path: Path) -> Iterator[None]:
    """SQLite's and the system's errors as `StoreError`s that name the file."""
    try:
        yield
    except sqlite3.OperationalError as error:
        raise StoreError(
            f"{path} cannot be used: {error}. Nothing was lost; check space and permissions"
        ) from error
    except sqlite3.DatabaseError as error:
        raise StoreError(_damaged(path, str(error))) from error
    except json.JSONDecodeError as error:
        raise StoreError(_damaged(path, str(error))) from error
    except PermissionError as error:
        raise StoreError(f"{path} must be writable, but {error.strerror}") from error
