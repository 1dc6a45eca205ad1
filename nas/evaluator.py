"""What a worker does with one candidate: build, tune and train by Hyperband, measure. It never raises.

Importing this module loads no torch; evaluating does.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nas import registry
from nas.architecture import Architecture, Scalar
from nas.device import Device
from nas.hpo import brackets, hyperband, sample_config, within
from nas.protocols import Diverged, Measurement, Objective, SearchSpace, Subject
from nas.seeding import Purpose, integer_seed, stream
from nas.settings import Settings, SettingsError
from nas.start import Lender, Start, started
from nas.trial import Failure, Proposal, Result
from nas.weights import WeightsError, file_sha256, load_model, momentum_file

if TYPE_CHECKING:
    import torch

    from nas.trainer import SupervisedTrainer

WINNER = "winner.safetensors"
EPOCHS = "epochs.log"
"""A line for each epoch trained, those that a kill made vain included."""


@dataclass(frozen=True)
class Task:
    """One candidate to evaluate, as plain data that goes to another process.

    Attributes:
        folder: the study's; a worker reads `data/` and writes into `scratch` only.
        scratch: relative to `folder`.
        calibration: constants of the machine by objective.
        lender: whose weights the candidate starts from, if anyone's.
    """

    trial_id: int
    proposal: Proposal
    settings: Settings
    folder: str
    scratch: str
    calibration: Mapping[str, Mapping[str, float]]
    lender: Lender | None = None


@dataclass(frozen=True)
class Remeasure:
    """Trained candidates to measure together, e.g. the front at the end of a search."""

    trials: tuple[tuple[int, Architecture, str], ...]  # id, written form, weights relative to the folder
    objective: str
    settings: Settings
    folder: str
    calibration: Mapping[str, float]


def space_recipe(settings: Settings, input_shape: Sequence[int], classes: int) -> dict[str, Any]:
    """Name and options of the space of a study, for inputs of its data set."""
    shape = {"input_shape": list(input_shape), "classes": classes}
    return {"name": settings.space.name, "options": {**shape, **settings.space.options}}


def make_space(settings: Settings, input_shape: Sequence[int], classes: int) -> SearchSpace:
    """The space of a study, for inputs of its data set."""
    recipe = space_recipe(settings, input_shape, classes)
    space: SearchSpace = registry.make("space", recipe["name"], recipe["options"])
    return space


def make_objectives(settings: Settings) -> tuple[Objective, ...]:
    """The objectives of a study, in order."""
    return tuple(registry.make("objective", o.name, o.options) for o in settings.objectives)


class Outage(RuntimeError):
    """The machine or the study's files failed, not a candidate: the trial stays open, the run stops."""


def evaluate(task: Task) -> Result | Failure | Outage:
    """Trains and measures a candidate; whatever goes wrong with it becomes a `Failure`.

    What is wrong with the surroundings (data, components, a full disk) comes back as an `Outage`. Calling
    it again with the same scratch folder continues where the last call was stopped.
    """
    with _threads(task.settings.run.threads):
        try:
            workplace = _Workplace.of(task)
        except Exception as error:
            return Outage(Failure.of(error).message)
        try:
            return _evaluate(task, workplace)
        except Diverged as error:
            return Failure("nan", str(error))
        except OSError as error:
            return Outage(Failure.of(error).message)
        except (Exception, SystemExit) as error:
            failure = Failure.of(error)
            return Outage(failure.message) if "No space left" in failure.message else failure


@dataclass(frozen=True)
class _Workplace:
    """What every candidate of a study is evaluated with."""

    space: SearchSpace
    objectives: tuple[Objective, ...]
    machine: Device
    device: torch.device
    validation: tuple[torch.Tensor, torch.Tensor]

    @classmethod
    def of(cls, task: Task | Remeasure) -> _Workplace:
        from nas.data import load, read_info

        folder = Path(task.folder)
        info = read_info(folder / "data")
        machine = Device(folder / "locks")
        device = torch_device(task.settings.training.device)
        with machine.shared():
            validation = load(folder / "data", "validation", device)
        space = make_space(task.settings, info.input_shape, len(info.classes))
        return cls(space, make_objectives(task.settings), machine, device, validation)

    def subject(self, model: torch.nn.Module, arch: Architecture, **more: Any) -> Subject:
        """A trained network as objectives see it."""
        return Subject(
            model=model.to(self.device).eval(),
            architecture=arch,
            space=self.space,
            x=self.validation[0],
            y=self.validation[1],
            device=self.device,
            alone=self.machine.alone,
            shared=self.machine.shared,
            **more,
        )


def _evaluate(task: Task, workplace: _Workplace) -> Result | Failure:
    from safetensors.torch import save

    from nas.data import load
    from nas.trainer import SupervisedTrainer

    start = time.monotonic()
    settings, folder = task.settings, Path(task.folder)
    horizon = task.proposal.epochs or settings.hyperband.max_epochs
    scratch = folder / task.scratch
    scratch.mkdir(parents=True, exist_ok=True)
    with workplace.machine.shared():
        train = load(folder / "data", "train", workplace.device)
    trainer = SupervisedTrainer(
        train=train,
        validation=workplace.validation,
        settings=settings.training,
        horizon=horizon,
        augment=settings.data.augment,
        turn=workplace.machine.shared,
        log=lambda entry: _note(scratch / EPOCHS, f"{entry['epoch']}"),
    )
    candidate = _Candidate(task, workplace.space, trainer, scratch)
    schedule = brackets(
        horizon, settings.hyperband.eta, settings.hyperband.table, settings.hyperband.brackets
    )
    tuned = hyperband(schedule, candidate.loss)
    if tuned is None:
        return Failure("nan", f"no configuration stayed finite; {candidate.diverged}")
    model, curve = candidate.trained(tuned.bracket, tuned.index, horizon)
    weights = scratch / WINNER
    weights.write_bytes(save({name: t.contiguous().cpu() for name, t in model.state_dict().items()}))
    if settings.training.inherit == "weights+momentum":
        candidate.keep_momentum(model, tuned.bracket, tuned.index, weights)
    subject = workplace.subject(
        model,
        task.proposal.architecture,
        metrics=curve[-1],
        calibration={},
        seed=integer_seed(settings.seed, Purpose.MEASURE, task.trial_id),
    )
    values, details = _measured(workplace.objectives, subject, task.calibration)
    return Result(
        values=values,
        details=details,
        hparams=candidate.config(tuned.bracket, tuned.index),
        curve=tuple(curve),
        cost={**candidate.epochs(), "seconds": time.monotonic() - start},
        weights=f"{task.scratch}/{WINNER}",
        weights_sha256=file_sha256(weights),
        inherited=0.0 if candidate.start is None else candidate.start.share,
        note=candidate.note if candidate.start is None else candidate.start.note,
    )


@dataclass
class _Candidate:
    """The configurations of one candidate: each has a name, a seed and a checkpoint of its own."""

    task: Task
    space: SearchSpace
    trainer: SupervisedTrainer
    scratch: Path
    diverged: str = ""
    note: str = ""

    @cached_property
    def start(self) -> Start | None:
        """What the lender gives; None where there is none, or its file is gone."""
        task = self.task
        if task.lender is None:
            return None
        try:
            return started(
                task.proposal.architecture,
                task.lender,
                self.space,
                self.trainer,
                Path(task.folder),
                self.scratch,
                task.settings.seed,
                task.trial_id,
                task.settings.training.distill,
            )
        except WeightsError as error:
            self.note = f"started from nothing: {error}"
            return None

    def config(self, bracket: int, index: int) -> dict[str, Scalar]:
        """Drawn by (trial, bracket, index); the very first one is the study's default, within the ranges."""
        settings = self.task.settings
        defaults = within(settings.hyperband.space, settings.training.hparams())
        first = brackets(self.trainer.horizon, settings.hyperband.eta)[0].s
        if (bracket, index) == (first, 0):
            return defaults
        rng = stream(settings.seed, Purpose.HPARAMS, self.task.trial_id, bracket, index)
        return sample_config(settings.hyperband.space, defaults, rng)

    def loss(self, bracket: int, index: int, epochs: int) -> float:
        """Validation error after `epochs`, NaN if training diverged; a rung that is there is only read."""
        from nas.trainer import recorded_curve

        checkpoint = self._checkpoint(bracket, index)
        known = recorded_curve(checkpoint)
        if len(known) >= epochs:
            return known[epochs - 1]["error"]
        mark = checkpoint.with_suffix(".diverged")
        if not mark.exists():
            try:
                return self.trained(bracket, index, epochs)[1][-1]["error"]
            except Diverged as error:
                mark.write_text(str(error))
        self.diverged = mark.read_text()
        return math.nan

    def epochs(self) -> dict[str, float]:
        """Epochs that stand in a checkpoint, those of distillation among them, and those that were lost to a
        kill or a divergence."""
        from nas.trainer import recorded_curve

        distilled = 0 if self.start is None else self.start.distilled
        kept = distilled + sum(len(recorded_curve(path)) for path in self.scratch.glob("s*-c*.safetensors"))
        trained = len((self.scratch / EPOCHS).read_text().splitlines())
        return {"epochs": kept, "epochs_distilled": distilled, "epochs_lost": trained - kept}

    def trained(
        self, bracket: int, index: int, epochs: int
    ) -> tuple[torch.nn.Module, Sequence[Mapping[str, float]]]:
        """The network of a configuration and its learning curve."""
        from nas.trainer import seeded

        seed = integer_seed(self.task.settings.seed, Purpose.TRAIN, self.task.trial_id, bracket, index)
        with seeded(seed):
            model = self.space.build(self.space.canonical(self.task.proposal.architecture))
        trainer = self.trainer
        if self.start is not None:
            model.load_state_dict(self.start.weights)
            trainer = replace(trainer, momentum=self.start.momentum)
        checkpoint = self._checkpoint(bracket, index)
        return model, trainer.fit(model, self.config(bracket, index), epochs, seed, checkpoint)

    def keep_momentum(self, model: torch.nn.Module, bracket: int, index: int, weights: Path) -> None:
        """Writes the optimizer's state of a configuration beside the winner's weights, for its children."""
        from safetensors.torch import save_file

        from nas.trainer import recorded_momentum

        kept = recorded_momentum(self._checkpoint(bracket, index), model)
        tensors = {f"{kind}:{name}": t for name, kinds in kept.items() for kind, t in kinds.items()}
        if tensors:  # none without momentum
            save_file(tensors, momentum_file(weights))

    def _checkpoint(self, bracket: int, index: int) -> Path:
        return self.scratch / f"s{bracket}-c{index}.safetensors"


def _measured(
    objectives: Sequence[Objective], subject: Subject, calibration: Mapping[str, Mapping[str, float]]
) -> tuple[dict[str, float], dict[str, Mapping[str, float]]]:
    values: dict[str, float] = {}
    details: dict[str, Mapping[str, float]] = {}
    for objective in objectives:
        if objective.measure is None:
            continue
        found = objective.measure(replace(subject, calibration=calibration.get(objective.name, {})))
        if isinstance(found, Measurement):
            values[objective.name] = float(found.value)
            details[objective.name] = {name: float(value) for name, value in found.details.items()}
        else:
            values[objective.name] = float(found)
    return values, details


def remeasure(task: Remeasure) -> dict[int, Measurement] | Failure:
    """Measures trained candidates together, interleaved; see `Objective.measure_together`."""
    try:
        with _threads(task.settings.run.threads):
            return _remeasure(task)
    except Exception as error:
        return Failure.of(error)


def _remeasure(task: Remeasure) -> dict[int, Measurement]:
    workplace = _Workplace.of(task)
    subjects = [
        workplace.subject(
            load_model(workplace.space, arch, Path(task.folder) / weights),
            arch,
            metrics={},
            calibration=task.calibration,
            seed=integer_seed(task.settings.seed, Purpose.MEASURE, trial_id),
        )
        for trial_id, arch, weights in task.trials
    ]
    objective = next(o for o in workplace.objectives if o.name == task.objective)
    if objective.measure_together is None:
        return {}
    found = objective.measure_together(subjects)
    return {trial[0]: measurement for trial, measurement in zip(task.trials, found, strict=True)}


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """So many threads for torch's operators; the driver's own number comes back."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _note(path: Path, line: str) -> None:
    with path.open("a") as file:
        file.write(f"{line}\n")


def torch_device(name: str) -> torch.device:
    """The device of `[training]`, "auto" resolved.

    Raises:
        SettingsError: the machine has no such device.
    """
    import torch

    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    device = torch.device(name)
    there = {"cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}
    if device.type in there and (device.index or 0) >= there[device.type]:
        raise SettingsError(
            f"`training.device` must be on this machine, but got {name!r}, and it has {there[device.type]} "
            f"{device.type} device(s): set it to 'cpu' or 'auto'"
        )
    return device
