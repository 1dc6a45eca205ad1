"""The driver's loop: it keeps the executor busy, records what comes back, and measures around it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from contextlib import contextmanager
from typing import TYPE_CHECKING

from nas.data import check
from nas.device import Device, machine_name
from nas.evaluator import Outage, Remeasure, Task, evaluate, remeasure, torch_device
from nas.executors import ProcessExecutor, SerialExecutor
from nas.protocols import Exhausted, Measurement, Wait
from nas.settings import SettingsError
from nas.start import Lender
from nas.store import Store
from nas.trial import Failure, Result, Trial

if TYPE_CHECKING:
    from nas.study import Study

Watch = Callable[[Trial], None]
"""Called with each trial when it is proposed and when it has ended."""


class Runner:
    """Evaluates the candidates of a study in a folder, whose writer it is."""

    def __init__(self, study: Study, store: Store, watch: Watch) -> None:
        self._study = study
        self._store = store
        self._watch = watch
        self._folder = str(study.folder.resolve())

    def run(self, trials: int, workers: int, executor: Executor | None) -> Exhausted | None:
        """See `Study.run`."""
        self._check()
        self._store.sweep(self._study.trials)
        calibration = self._calibration()
        with self._executor(workers) if executor is None else _lent(executor) as pool:
            ended = self._loop(pool, trials, calibration)
            self._remeasure_front(pool, calibration)
        return ended

    def _check(self) -> None:
        """Raises what would otherwise fail each candidate in turn."""
        for objective in self._study.objectives:
            if objective.exact is None and objective.measure is None:
                raise SettingsError(
                    f"objective {objective.name!r} must have `exact` or `measure` to be evaluated here; "
                    "give it one, or tell its values with ask() and tell()"
                )
        check(self._study.folder / "data")
        if self._study.settings.training.device not in ("cpu", "auto"):
            torch_device(self._study.settings.training.device)

    @contextmanager
    def _executor(self, workers: int) -> Iterator[Executor]:
        """An executor of one's own; what runs in it is killed when the run is stopped."""
        run = self._study.settings.run
        memory = None if run.memory_gb is None else int(run.memory_gb * 2**30)
        pool = ProcessExecutor(workers, run.timeout_s, memory) if workers else SerialExecutor()
        try:
            yield pool
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
        pool.shutdown()

    def _loop(
        self, pool: Executor, trials: int, calibration: Mapping[str, Mapping[str, float]]
    ) -> Exhausted | None:
        patience = self._study.settings.run.patience
        left_open = [trial for trial in self._study.trials if trial.outcome is None]
        count = len(self._study.trials)
        running: dict[Future[Result | Failure | Outage], int] = {}
        ended: Exhausted | None = None
        while True:
            while ended is None and (left_open or count < trials):
                if patience is not None and not left_open and self._study.stalled(patience):
                    ended = Exhausted(f"{patience} trials in a row did not enlarge the hypervolume")
                    break
                asked = left_open.pop(0) if left_open else self._study.ask()
                count = len(self._study.trials)
                if isinstance(asked, Wait):
                    break
                if isinstance(asked, Exhausted):
                    ended = asked
                    break
                self._watch(asked)
                running[pool.submit(evaluate, self._task(asked, calibration))] = asked.id
            if not running:
                return ended
            for future in sorted(wait(running, return_when=FIRST_COMPLETED).done, key=running.__getitem__):
                self._watch(self._study.tell(running.pop(future), _outcome(future)))

    def _task(self, trial: Trial, calibration: Mapping[str, Mapping[str, float]]) -> Task:
        scratch = self._store.scratch(trial.id).relative_to(self._store.folder).as_posix()
        return Task(
            trial.id,
            trial.proposal,
            self._study.settings,
            self._folder,
            scratch,
            calibration,
            self._lender(trial),
        )

    def _lender(self, trial: Trial) -> Lender | None:
        """The first parent, if it has weights to lend and the study wants them."""
        if self._study.settings.training.inherit == "nothing" or not trial.proposal.parents:
            return None
        parent = self._study.trials[trial.proposal.parents[0]]
        if not isinstance(parent.outcome, Result) or parent.outcome.weights is None:
            return None
        return Lender(parent.architecture, parent.outcome.weights, parent.outcome.weights_sha256)

    def _calibration(self) -> Mapping[str, Mapping[str, float]]:
        """The constants of this machine, measured once, before anything runs on it."""
        known: Mapping[str, Mapping[str, float]] | None = self._store.fact("calibration")
        machines = self._study.machines()
        if any(o.calibrate is not None for o in self._study.objectives) and machine_name() not in machines:
            self._store.set_fact("machines", [*machines, machine_name()])
        if known is not None:
            return known
        with Device(self._study.folder / "locks").alone():
            found = {o.name: dict(o.calibrate()) for o in self._study.objectives if o.calibrate is not None}
        self._store.set_fact("calibration", found)
        return found

    def _remeasure_front(self, pool: Executor, calibration: Mapping[str, Mapping[str, float]]) -> None:
        """Measures the front's members again, together; what the searcher saw stays as it is."""
        members = tuple(
            (trial.id, trial.architecture, trial.outcome.weights)
            for trial in self._study.front()
            if isinstance(trial.outcome, Result) and trial.outcome.weights is not None
        )
        names = [o.name for o in self._study.objectives if o.measure_together is not None]
        if not members or not names or set(self._study.remeasured()) == {member[0] for member in members}:
            return
        values: dict[int, dict[str, float]] = {}
        problem: str | None = None
        for name in names:
            task = Remeasure(members, name, self._study.settings, self._folder, calibration.get(name, {}))
            found: dict[int, Measurement] | Failure = pool.submit(remeasure, task).result()
            if isinstance(found, Failure):
                problem = f"{name}: {found.message}"
                continue
            for trial_id, measurement in found.items():
                values.setdefault(trial_id, {})[name] = measurement.value
        self._store.set_fact("remeasured", values)
        self._store.set_fact("remeasure_failure", problem)


@contextmanager
def _lent(executor: Executor) -> Iterator[Executor]:
    """The user's executor: its user ends it."""
    yield executor


def _outcome(future: Future[Result | Failure | Outage]) -> Result | Failure:
    """What a task ended with; an executor that lost it gives an exception instead.

    Raises:
        Outage: nothing is wrong with the candidate; run the study again once the cause is mended.
    """
    error = future.exception()
    if error is not None:
        return Failure("lost", f"the executor lost it: {type(error).__name__}: {error}")
    outcome = future.result()
    if isinstance(outcome, Outage):
        raise Outage(f"the run stopped, its open trials stay open: {outcome}; mend it and run again")
    return outcome
