"""A study: a search space, objectives and a searcher; what was tried, and how it ended.

In memory it is `ask()` and `tell()`, for tables and for people who bring their own evaluation. In a folder
it trains its candidates itself, keeps everything in one file, and running it again continues it.
"""

from __future__ import annotations

import math
import operator
import shutil
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from nas import pareto
from nas.config import read_settings, settings_from_dict, settings_to_dict
from nas.data import prepare, read_info
from nas.founding import check_folder, check_names, make_search, study_data
from nas.protocols import Exhausted, Identity, Objective, Searcher, SearchSpace, Wait
from nas.running import Runner, Watch
from nas.search import Search
from nas.settings import Settings
from nas.store import Store, StoreError, lock_folder
from nas.trial import Failure, Outcome, Proposal, Result, Trial
from nas.volume import VolumeLog

INFEASIBLE_IN_A_ROW = 100
"""So many proposals beyond a limit, one after the other, end a search."""


class Study:
    """Use `in_memory`, `create` or `open`.

    Example:
        >>> from nas import Objective, Study
        >>> from nas.searchers import RandomSearch
        >>> from search_spaces.nasbench_macro import NASBenchMacroSpace
        >>> cheap = Objective("macs", exact=lambda arch, space: space.cost(arch).macs)
        >>> study = Study.in_memory(NASBenchMacroSpace(), [Objective("error"), cheap], RandomSearch())
        >>> for _ in range(5):
        ...     trial = study.ask()
        ...     told = study.tell(trial, {"error": 10.0})
        >>> len(study.trials), len(study.front())
        (5, 1)
    """

    def __init__(self, search: Search, store: Store | None = None, settings: Settings | None = None) -> None:
        self._search = search
        self._store = store
        self._settings = settings
        self._volume: VolumeLog | None = None

    # --- opening -----------------------------------------------------------------------------------

    @classmethod
    def in_memory(
        cls,
        space: SearchSpace,
        objectives: Sequence[Objective],
        searcher: Searcher[Any],
        seed: int = 0,
        in_flight: int = 1,
        identity: Identity = "network",
    ) -> Study:
        """A study without a folder: no store, no workers, no torch.

        Args:
            space, objectives, searcher: what is searched, for what, and how.
            seed: of all streams.
            in_flight: how many outcomes may be open when the next candidate is asked for.
            identity: candidates are the same if their networks are, or their written forms.
        """
        return cls(Search(space, objectives, searcher, seed=seed, in_flight=in_flight, identity=identity))

    @classmethod
    def create(cls, folder: str | Path, settings: Settings | Mapping[str, Any] | str | Path) -> Study:
        """A new study in an empty or missing folder; its data set is prepared and split now.

        Args:
            settings: a value, the tables of a study file, or the path of one.

        Raises:
            SettingsError: a setting is unknown or wrong.
            UnknownName: a space, objective or searcher cannot be found or made.
            DataError: the data set cannot be used.
            StoreError: the folder holds something else, or cannot be written.
        """
        folder = Path(folder)
        if isinstance(settings, str | Path):
            settings = read_settings(Path(settings))
        elif isinstance(settings, Mapping):
            settings = settings_from_dict(settings)
        check_names(settings)  # before any data are touched
        check_folder(folder)  # nothing is written into a folder of somebody else's
        lock = lock_folder(folder)
        try:
            check_folder(folder)  # another process may have been quicker
            data = folder / "data"
            shutil.rmtree(data, ignore_errors=True)  # of a creation that was killed
            try:
                info = prepare(settings.data, settings.seed, data)
                search = make_search(settings, info)
                store = Store.create(folder, settings_to_dict(settings), info.sha256)
            except BaseException:
                shutil.rmtree(data, ignore_errors=True)
                raise
        finally:
            lock.close()
        return cls(search, store, settings)

    @classmethod
    def open(cls, folder: str | Path) -> Study:
        """The study of a folder, as it was left, also while another process runs it.

        Raises:
            StoreError: there is none, or its record is damaged.
        """
        store = Store.open(Path(folder))
        try:
            study = cls._restored(store)
        except BaseException:
            store.close()
            raise
        return study

    @classmethod
    def _restored(cls, store: Store) -> Study:
        settings = settings_from_dict(store.fact("settings"))
        search = make_search(settings, study_data(settings, store.folder / "data", store.fact("data_sha256")))
        for trial in store.trials():
            search.restore(trial)
        return cls(search, store, settings)

    def close(self) -> None:
        """Lets go of the folder. The study in memory can still be read."""
        if self._store is not None:
            self._store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # --- what there is -----------------------------------------------------------------------------

    @property
    def trials(self) -> list[Trial]:
        """All trials, in id order."""
        return list(self._search.trials)

    @property
    def space(self) -> SearchSpace:
        return self._search.context.space

    @property
    def objectives(self) -> tuple[Objective, ...]:
        return self._search.objectives

    @property
    def settings(self) -> Settings:
        """Those of a study in a folder.

        Raises:
            StoreError: the study is in memory.
        """
        if self._settings is None:
            raise StoreError("a study in memory has no settings file")
        return self._settings

    @property
    def folder(self) -> Path:
        """Where the study lives.

        Raises:
            StoreError: the study is in memory.
        """
        if self._store is None:
            raise StoreError("a study in memory has no folder")
        return self._store.folder

    def front(self) -> list[Trial]:
        """The non-dominated trials among the successful ones that meet all limits, in id order."""
        return self._search.front()

    def knee(self) -> Trial | None:
        """The front's knee (see `nas.pareto.knee`); None while the front is empty."""
        front = self.front()
        return front[pareto.knee(self._search.losses(front))] if front else None

    def reference(self) -> Mapping[str, float] | None:
        """The hypervolume's reference point in the objectives' own units.

        That of the settings, or worst + .1 x range over the first ten successful feasible trials; None
        before there are ten. Once there it stays.
        """
        if self._settings is not None and self._settings.reference is not None:
            return self._settings.reference
        point = self._search.reference()
        if point is None:
            return None
        return {o.name: o.loss(float(x)) for o, x in zip(self.objectives, point, strict=True)}

    def hypervolume(self) -> float | None:
        """Volume between the front and the reference point; None before there is one."""
        point = self.reference()
        if point is None:
            return None
        bound = np.array([o.loss(point[o.name]) for o in self.objectives])
        return pareto.hypervolume(self._search.losses(self._search.successes()), bound)

    def hypervolume_history(self) -> list[float]:
        """The hypervolume after trial 0, 1, … as far as all have ended; empty before there is a reference."""
        log = self._volume_log()
        return list(log.values) if log is not None else []

    def last_growth(self) -> int | None:
        """The last trial that enlarged the hypervolume; None before there is one."""
        log = self._volume_log()
        return log.grown if log is not None and log.grown >= 0 else None

    def stalled(self, patience: int) -> bool:
        """Whether the last `patience` trials did not enlarge the hypervolume.

        The last of those that the next ask sees: which they are does not depend on timing, see `in_flight`.
        """
        log = self._volume_log()
        return log is not None and log.stalled(self._search.seen_by_next(), patience)

    def searcher_says(self) -> Mapping[str, str]:
        """What the searcher has to say of its state, such as how good its model is; most say nothing."""
        return self._search.searcher_says()

    def _volume_log(self) -> VolumeLog | None:
        """The log up to the first open trial; None before there is a reference."""
        if self._volume is None:
            point = self.reference()
            if point is None:
                return None
            self._volume = VolumeLog(np.array([o.loss(point[o.name]) for o in self.objectives]))
        trials = self._search.trials
        while len(self._volume.values) < len(trials):
            trial = trials[len(self._volume.values)]
            if trial.outcome is None:
                break
            self._volume.add(self._search.counted_losses(trial))
        return self._volume

    def remeasured(self) -> dict[int, dict[str, float]]:
        """What the final, joint measurement of the front gave: trial id -> objective name -> value."""
        known = self._store.fact("remeasured") if self._store is not None else None
        return {int(trial): dict(values) for trial, values in (known or {}).items()}

    def machines(self) -> list[str]:
        """The machines on which this study measured, in order; a comparison across several needs care."""
        return list(self._store.fact("machines") or []) if self._store is not None else []

    def remeasure_failure(self) -> str | None:
        """Why the front could not be measured again, None if it could."""
        failure: str | None = self._store.fact("remeasure_failure") if self._store is not None else None
        return failure

    def successes(self) -> list[Trial]:
        """The successful trials that meet all limits, in id order."""
        return self._search.successes()

    def test_errors(self) -> dict[int, float]:
        """Test error in percent by trial id, where it was looked at."""
        known = self._store.fact("test") if self._store is not None else None
        return {int(trial): value for trial, value in (known or {}).items()}

    def record_test_error(self, trial_id: int, error: float) -> None:
        """Keeps what a look at the test part gave; no searcher ever sees it."""
        with self._writing():
            if self._store is not None:
                self._store.set_fact("test", {**self.test_errors(), trial_id: error})

    # --- ask and tell ------------------------------------------------------------------------------

    def ask(self) -> Trial | Wait | Exhausted:
        """The next candidate, recorded as an open trial.

        Returns:
            A trial to evaluate; `Wait` if outcomes of earlier trials are needed first; `Exhausted` if there
            is nothing more to propose.
        """
        with self._writing():
            rules = ""
            for _ in range(INFEASIBLE_IN_A_ROW):
                proposal = self._search.ask()
                if not isinstance(proposal, Proposal):
                    return proposal
                failure = self._search.infeasible(proposal)
                if self._store is not None:  # committed before anything runs
                    self._store.add(Trial(len(self._search.trials), proposal, failure))
                trial = self._search.propose(proposal)
                if failure is None:
                    return trial
                self._search.finish(trial.id, failure)
                rules = failure.message
            return Exhausted(f"{INFEASIBLE_IN_A_ROW} proposals in a row broke a limit; the last: {rules}")

    def tell(self, trial: Trial | int, outcome: Mapping[str, float] | Result | Failure) -> Trial:
        """Records how a trial ended.

        Args:
            trial: what `ask` gave, or its id.
            outcome: a value for each objective that is not exact (exact ones are filled in), or a failure.
                A value that is not finite makes it a `Failure("nan")`.

        Raises:
            ValueError: no such open trial, a value is missing, or there is no such objective.
        """
        trial_id = trial.id if isinstance(trial, Trial) else operator.index(trial)
        with self._writing():
            return self._record(trial_id, outcome)

    def _record(self, trial_id: int, outcome: Mapping[str, float] | Outcome) -> Trial:
        known = self._search.open_trial(trial_id)
        complete = self._search.completed(known, outcome)
        if self._store is not None:
            complete = self._store.finish(trial_id, complete)
        trial = self._search.finish(trial_id, complete)
        if self._store is not None:
            self._store.log_volume(self.hypervolume_history())
        return trial

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Holds the folder's lock; what another process wrote since is read first."""
        if self._store is None:
            yield
            return
        if self._store.lock():
            self._reread()
        yield

    def _reread(self) -> None:
        if self._store is not None and self._store.state() != _state(self._search.trials):
            self._search = self._restored(self._store)._search
            self._volume = None

    # --- running -----------------------------------------------------------------------------------

    def run(
        self,
        trials: int | None = None,
        *,
        workers: int | None = None,
        executor: Executor | None = None,
        watch: Watch = lambda _: None,
    ) -> Exhausted | None:
        """Evaluates candidates until the study has `trials` of them; open ones of an earlier run go first.

        Args:
            trials: in all, from the very first; None for the settings' number.
            workers: processes, 0 for the driver's own; None for the settings' number.
            executor: runs the tasks instead (it must reach the study's folder).
            watch: called with each trial when it is proposed and when it has ended.

        Returns:
            Why the search ended early, None if it did not.

        Raises:
            StoreError: the study is in memory, or another process runs it.
            SettingsError: an objective is neither exact nor measured, or the device is not there.
            DataError: the study's data set is damaged.
            Outage: the machine failed, not a candidate (no space left, say); open trials stay open.
        """
        if self._store is None:
            raise StoreError("a study in memory is evaluated by its user: use ask() and tell()")
        run = self.settings.run
        with self._writing():
            try:
                return Runner(self, self._store, watch).run(
                    run.trials if trials is None else trials,
                    run.workers if workers is None else workers,
                    executor,
                )
            finally:
                self._store.unlock()

    def set_run(self, settings: Settings) -> None:
        """Takes over the [run] table of `settings`, which may change between runs."""
        with self._writing():
            self._settings = replace(self.settings, run=settings.run)
            if self._store is not None:
                self._store.set_fact("settings", settings_to_dict(self._settings))

    # --- verifying ---------------------------------------------------------------------------------

    def verify(self) -> str | None:
        """Replays the proposals from the settings and the recorded outcomes.

        Returns:
            The first difference between the record and the replay, None if there is none.
        """
        replay = make_search(self.settings, read_info(self.folder / "data"))
        for trial in self._search.trials:
            asked = replay.ask()
            if not isinstance(asked, Proposal):
                return f"trial {trial.id}: it is recorded, but the replay ends before it with {asked}"
            for field in ("architecture", "parents", "origin", "epochs", "hints"):
                there, now = getattr(trial.proposal, field), getattr(asked, field)
                if there != now:
                    return (
                        f"trial {trial.id}: {field} is recorded as {_short(there)}, "
                        f"but replays as {_short(now)}"
                    )
            exact = replay.context.exact(trial.architecture)
            for name, value in exact.items():
                known = trial.outcome is not None and math.isfinite(value)  # others are not recorded
                if known and trial.values.get(name) != value:
                    return (
                        f"trial {trial.id}: {name} is recorded as {trial.values.get(name)}, but is {value} "
                        "by the architecture"
                    )
            replay.restore(trial)
        return None


def _state(trials: Sequence[Trial]) -> tuple[int, int]:
    """How many trials there are, and how many have ended: both only grow."""
    return len(trials), sum(trial.outcome is not None for trial in trials)


def _short(value: object) -> str:
    text = value.to_json() if hasattr(value, "to_json") else repr(value)
    return text if len(text) <= 300 else f"{text[:300]}…"
