"""The settings of a study as typed, frozen values that check themselves. Reading TOML is `nas.config`."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import combinations
from typing import Any, Literal, get_args

from nas.architecture import Scalar
from nas.protocols import Identity


class SettingsError(ValueError):
    """A setting is unknown or wrong; the message says what must hold, what came and what to do."""


def _require(holds: bool, rule: str, **got: Any) -> None:
    """Raises `SettingsError` "rule must hold, but got (name=value)" unless `holds`."""
    if not holds:
        came = ", ".join(f"{name}={value!r}" for name, value in got.items())
        raise SettingsError(f"`{rule}` must hold, but got ({came})")


def _require_choice(name: str, value: str, choices: Any) -> None:
    options = get_args(choices)
    if value not in options:
        raise SettingsError(f"`{name}` must be one of {', '.join(map(repr, options))}, but got {value!r}")


@dataclass(frozen=True)
class Component:
    """A space, an objective or a searcher: a short name or "module:Class", and its keyword options."""

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)


Inherit = Literal["weights", "weights+momentum", "nothing"]
Augmentation = Literal["none", "shift", "shift+flip"]


@dataclass(frozen=True)
class DataSettings:
    """Which data set, and how it is split.

    Attributes:
        name: "digits", "mnist", "fashion_mnist", "cifar10", "cifar100", "folder" or "npz".
        path: download folder, image folder or .npz file ("digits" needs none).
        validation, test: shares of the training data held out; `test` only where the source has no test part.
        augment: what training batches go through; shifts are by up to an eighth of the side.
        limit: use at most this many training images (stratified), None for all.
        image_size: images of a folder are resized to this side.
    """

    name: str = "digits"
    path: str | None = None
    validation: float = 0.15
    test: float = 0.15
    augment: Augmentation = "none"
    limit: int | None = None
    image_size: int = 32

    def __post_init__(self) -> None:
        _require(0 < self.validation < 1, "0 < data.validation < 1", validation=self.validation)
        _require(0 < self.test < 1, "0 < data.test < 1", test=self.test)
        _require(
            self.validation + self.test < 1,
            "data.validation + data.test < 1",
            validation=self.validation,
            test=self.test,
        )
        _require_choice("data.augment", self.augment, Augmentation)
        _require(self.limit is None or self.limit >= 1, "data.limit >= 1", limit=self.limit)
        _require(self.image_size >= 1, "data.image_size >= 1", image_size=self.image_size)


@dataclass(frozen=True)
class TrainingSettings:
    """How one configuration is trained.

    Attributes:
        optimizer: "sgd" (Nesterov momentum) or "adamw".
        schedule: "cosine" or "one-cycle", over `max_epochs` of Hyperband.
        batch_size: images a step.
        lr, momentum, weight_decay, label_smoothing: defaults, tuned where `[hyperband.space]` names them.
        clip: largest gradient norm; None for no clipping.
        device: "cpu", "cuda", "cuda:1" …, or "auto".
        inherit: what a child starts from: its parent's "weights" (see `nas.inherit`), "weights+momentum", the
            optimizer's state too, or "nothing".
        distill: epochs in which a child that does not compute what its parent does is first trained to give
            its logits; 0 for none.
    """

    optimizer: Literal["sgd", "adamw"] = "sgd"
    schedule: Literal["cosine", "one-cycle"] = "one-cycle"
    batch_size: int = 64
    lr: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 5e-4
    label_smoothing: float = 0.1
    clip: float | None = 5.0
    device: str = "cpu"
    inherit: Inherit = "weights"
    distill: int = 1

    def __post_init__(self) -> None:
        _require_choice("training.optimizer", self.optimizer, Literal["sgd", "adamw"])
        if not re.fullmatch(r"cpu|auto|mps|cuda(:\d+)?", self.device):
            raise SettingsError(
                f"`training.device` must be cpu, auto, cuda, cuda:N or mps, but got {self.device!r}"
            )
        _require_choice("training.inherit", self.inherit, Inherit)
        _require(self.distill >= 0, "training.distill >= 0", distill=self.distill)
        _require_choice("training.schedule", self.schedule, Literal["cosine", "one-cycle"])
        _require(self.batch_size >= 2, "training.batch_size >= 2", batch_size=self.batch_size)
        _require(0 < self.lr < math.inf, "0 < training.lr < inf", lr=self.lr)
        _require(0 <= self.momentum < 1, "0 <= training.momentum < 1", momentum=self.momentum)
        _require(
            0 <= self.weight_decay < math.inf,
            "0 <= training.weight_decay < inf",
            weight_decay=self.weight_decay,
        )
        _require(
            0 <= self.label_smoothing < 1,
            "0 <= training.label_smoothing < 1",
            label_smoothing=self.label_smoothing,
        )
        _require(self.clip is None or self.clip > 0, "training.clip > 0", clip=self.clip)

    TUNABLE = ("lr", "momentum", "weight_decay", "label_smoothing")

    def hparams(self) -> dict[str, Scalar]:
        """The default configuration, which is the first one of every nested search."""
        return {name: getattr(self, name) for name in self.TUNABLE}


def _check_hparam(name: str, value: Any) -> None:
    """Raises `SettingsError` unless `value` is one that `[training]` would take."""
    replace(TrainingSettings(), **{name: value})


@dataclass(frozen=True)
class Range:
    """A range of one hyperparameter: low <= value <= high, uniform in log if `log`."""

    low: float
    high: float
    log: bool = False

    def __post_init__(self) -> None:
        _require(
            math.isfinite(self.low) and math.isfinite(self.high) and self.low <= self.high,
            "low <= high",
            low=self.low,
            high=self.high,
        )
        _require(not self.log or self.low > 0, "low > 0 where log = true", low=self.low)


@dataclass(frozen=True)
class Choice:
    """A hyperparameter with a few values."""

    values: tuple[Scalar, ...]

    def __post_init__(self) -> None:
        _require(len(self.values) > 0, "at least one value", values=self.values)


def _default_space() -> dict[str, Range | Choice]:
    return {
        "lr": Range(0.02, 0.5, log=True),
        "weight_decay": Range(1e-5, 1e-2, log=True),
    }


HyperbandTable = Literal["printed", "formula"]


@dataclass(frozen=True)
class HyperbandSettings:
    """The nested search over hyperparameters (Li et al. 2018).

    Attributes:
        max_epochs: R, the budget of one fully trained configuration.
        eta: share kept from rung to rung is 1 / eta.
        table: "printed", the paper's table (81, 27, 9, 6, 5 configurations for R = 81), or "formula",
            ceil((s_max + 1) / (s + 1) * eta^s) (81, 34, 15, 8, 5).
        brackets: how many brackets to run, most exploring first; None for all; 1 is successive halving.
        space: ranges by name; every name is one of lr, momentum, weight_decay, label_smoothing.
    """

    max_epochs: int = 9
    eta: int = 3
    table: HyperbandTable = "printed"
    brackets: int | None = None
    space: Mapping[str, Range | Choice] = field(default_factory=_default_space)

    def __post_init__(self) -> None:
        _require(self.max_epochs >= 1, "hyperband.max_epochs >= 1", max_epochs=self.max_epochs)
        _require(self.eta >= 2, "hyperband.eta >= 2", eta=self.eta)
        _require_choice("hyperband.table", self.table, HyperbandTable)
        _require(
            self.brackets is None or self.brackets >= 1, "hyperband.brackets >= 1", brackets=self.brackets
        )
        for name, domain in self.space.items():
            if name not in TrainingSettings.TUNABLE:
                raise SettingsError(
                    f"`hyperband.space` may tune {', '.join(TrainingSettings.TUNABLE)}, but got {name!r}"
                )
            ends = (domain.low, domain.high) if isinstance(domain, Range) else domain.values
            for end in ends:  # each end must be a valid training setting
                if isinstance(end, bool) or not isinstance(end, int | float):
                    raise SettingsError(f"`hyperband.space.{name}` must hold numbers, but got {end!r}")
                try:
                    _check_hparam(name, end)
                except SettingsError as error:
                    raise SettingsError(f"`hyperband.space.{name}`: {error}") from None


@dataclass(frozen=True)
class RunSettings:
    """How a study is run. May be changed between runs.

    The outcomes of later candidates can differ with `threads` (rounding), `timeout_s` and `memory_gb`.

    Attributes:
        trials: the study is finished when it has this many.
        workers: processes that evaluate candidates; 0 evaluates in the driver's process.
        threads: of each worker's training.
        timeout_s: seconds one candidate may take (waiting for a quiet machine not counted), or None; not
            with workers = 0.
        memory_gb: memory one candidate may allocate beyond the worker's own (Linux), or None; not with
            workers = 0.
        patience: the study also ends when so many trials in a row did not enlarge the hypervolume; None for
            never.
    """

    trials: int = 30
    workers: int = 1
    threads: int = 1
    timeout_s: float | None = 1800.0
    memory_gb: float | None = None
    patience: int | None = None

    def __post_init__(self) -> None:
        _require(self.trials >= 1, "run.trials >= 1", trials=self.trials)
        _require(self.patience is None or self.patience >= 1, "run.patience >= 1", patience=self.patience)
        _require(self.workers >= 0, "run.workers >= 0", workers=self.workers)
        _require(self.threads >= 1, "run.threads >= 1", threads=self.threads)
        _require(self.timeout_s is None or self.timeout_s > 0, "run.timeout_s > 0", timeout_s=self.timeout_s)
        _require(self.memory_gb is None or self.memory_gb > 0, "run.memory_gb > 0", memory_gb=self.memory_gb)


@dataclass(frozen=True)
class Settings:
    """Everything that defines a study.

    Attributes:
        seed: of all streams of the study.
        in_flight: ask n sees the outcomes of the trials with id <= n - in_flight.
        identity: what makes two candidates the same, "network" or "written".
        reference: reference point of the hypervolume by objective, None to take it from the first trials.
    """

    space: Component = Component("chain")
    searcher: Component = Component("auto")
    objectives: tuple[Component, ...] = (Component("error"), Component("params"))
    seed: int = 0
    in_flight: int = 2
    identity: Identity = "network"
    reference: Mapping[str, float] | None = None
    data: DataSettings = DataSettings()
    training: TrainingSettings = TrainingSettings()
    hyperband: HyperbandSettings = field(default_factory=HyperbandSettings)
    run: RunSettings = RunSettings()

    def __post_init__(self) -> None:
        _require(self.seed >= 0, "study.seed >= 0", seed=self.seed)
        _require(self.in_flight >= 1, "study.in_flight >= 1", in_flight=self.in_flight)
        _require_choice("study.identity", self.identity, Identity)
        _require(len(self.objectives) >= 1, "at least one [[objectives]]", objectives=self.objectives)
        differ = all(a != b for a, b in combinations(self.objectives, 2))
        _require(differ, "objectives differ", objectives=[objective.name for objective in self.objectives])
        for name, bound in (self.reference or {}).items():
            _require(math.isfinite(bound), "study.reference is finite", **{name: bound})
