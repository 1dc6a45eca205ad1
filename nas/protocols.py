"""The roles of a study and the values they pass. Everything here is free of torch at run time."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from nas.architecture import Architecture, InvalidArchitecture, Scalar
from nas.device import unshared
from nas.trial import Proposal, Trial

if TYPE_CHECKING:
    import torch

Identity = Literal["network", "written"]
"""What makes two candidates the same: the canonical network, or the architecture as written."""


@dataclass(frozen=True, slots=True)
class Cost:
    """What an architecture costs, known without building it.

    Attributes:
        params: number of trainable parameters.
        macs: multiply-accumulates of convolutions, linear layers and matmuls for one input.
        peak_activation_bytes: largest sum of float32 tensors alive at once for one input, batch norm
            and activations in place, nodes run in their listed order.
    """

    params: int
    macs: int
    peak_activation_bytes: int

    @property
    def flops(self) -> int:
        """2 x macs."""
        return 2 * self.macs


class NothingToChange(InvalidArchitecture):
    """A space of a single architecture was asked to mutate it."""


@runtime_checkable
class SearchSpace(Protocol):
    """A set of architectures. Constructed with `input_shape`, e.g. (C, H, W), and `classes`.

    It may also have `draft`, see `Draft`, and `network_key`, which gives the key of `canonical` for less, and
    be a `NumericSpace`.
    """

    name: str
    input_shape: tuple[int, ...]
    classes: int

    def sample(self, rng: np.random.Generator) -> Architecture:
        """One architecture, uniform over what the space claims."""
        ...

    def mutate(self, arch: Architecture, rng: np.random.Generator) -> Architecture:
        """One change; never the current value. Node ids of what stays are kept.

        Raises:
            NothingToChange: the space holds this architecture only.
        """
        ...

    def crossover(self, a: Architecture, b: Architecture, rng: np.random.Generator) -> Architecture:
        """A mix of both that keeps the ids of `a` and renumbers what it takes from `b`."""
        ...

    def neighbors(self, arch: Architecture) -> Sequence[Architecture]:
        """All architectures one change away."""
        ...

    def check(self, arch: Architecture) -> None:
        """Raises `InvalidArchitecture`, naming node and rule, if `arch` is not of this space."""
        ...

    def canonical(self, arch: Architecture) -> Architecture:
        """The network `arch` computes: dead nodes and no-ops removed, surviving ids kept."""
        ...

    def build(self, arch: Architecture) -> torch.nn.Module:
        """The form given as a module: float32[batch, *input_shape] -> float32[batch, classes]."""
        ...

    def encode(self, arch: Architecture) -> NDArray[np.float64]:
        """`float64[d]`, of a length that is fixed for the space."""
        ...

    def cost(self, arch: Architecture) -> Cost:
        """Cost of the form given, by shape inference."""
        ...


@runtime_checkable
class NumericSpace(Protocol):
    """What a space has besides if its architectures are also points in a box, one number a choice."""

    @property
    def bounds(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """(lower, upper), `float64[d]` each."""
        ...

    def vector(self, arch: Architecture) -> NDArray[np.float64]:
        """The point of `arch` (`float64[d]`), within the bounds."""
        ...

    def from_vector(self, x: NDArray[np.float64]) -> Architecture:
        """The architecture nearest to `x` (`float64[d]`, also beyond the bounds); of its own point itself."""
        ...


class Draft(Protocol):
    """What an architecture would be made of, before it is written.

    Writing one costs time, and most children of a search that has converged were proposed before. A space may
    have a method `draft(arch) -> Draft | None`, None if it makes none after all. Its drafts must draw exactly
    as its own `mutate` and `crossover` do: who overrides these overrides `draft`.
    """

    def mutated(self, rng: np.random.Generator) -> Draft:
        """As `SearchSpace.mutate`."""
        ...

    def crossed(self, mate: Architecture, rng: np.random.Generator) -> Draft:
        """As `SearchSpace.crossover`."""
        ...

    def natural(self) -> Architecture:
        """The architecture in those ids that cost least: it tells whether it was proposed before."""
        ...

    def written(self) -> Architecture:
        """The architecture; node ids of what stays of the first parent are kept."""
        ...


@dataclass(frozen=True, slots=True)
class Measurement:
    """A measured value with what else was seen: {"spread": …}, stored beside it."""

    value: float
    details: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Subject:
    """A trained candidate, as an objective sees it.

    Attributes:
        model: the winner of the nested search, in eval mode, on `device`.
        architecture: in its written form; `space` can read it.
        x: validation inputs, float32[n, *input_shape], normalised.
        y: validation labels, int64[n].
        device: where model and data live.
        metrics: last entry of the winner's learning curve; empty when measured again later.
        calibration: what `Objective.calibrate` gave at the start of the study.
        alone: a context in which nothing else of this study runs on the machine. Not within `shared`.
        seed: of what a measurement draws.
        shared: a context for work that runs beside the trainings of this study, never beside a measurement.
    """

    model: torch.nn.Module
    architecture: Architecture
    space: SearchSpace
    x: torch.Tensor
    y: torch.Tensor
    device: torch.device
    metrics: Mapping[str, float] = field(default_factory=dict)
    calibration: Mapping[str, float] = field(default_factory=dict)
    alone: Callable[[], AbstractContextManager[None]] = unshared
    seed: int = 0
    shared: Callable[[], AbstractContextManager[None]] = unshared


@dataclass(frozen=True)
class Objective:
    """One axis of the search.

    Attributes:
        name: with its unit ("latency_ms", "error"); unique in a study.
        maximize: whether more is better.
        limit: feasible values are <= limit (>= when maximised); None for no limit.
        exact: (arch, space) -> value, known without training; never modelled, checked before training.
        measure: (subject) -> value or `Measurement`, on the trained model.
        calibrate: () -> constants of this machine, measured once at the start of a study.
        measure_together: (subjects) -> measurements taken interleaved, for the front at the end.

    An objective with neither `exact` nor `measure` is told by the user of an in-memory study.

    Raises:
        ValueError: the name is empty, the limit is NaN, or both `exact` and `measure` are given.
    """

    name: str
    maximize: bool = False
    limit: float | None = None
    exact: Callable[[Architecture, Any], float] | None = None
    measure: Callable[[Subject], float | Measurement] | None = None
    calibrate: Callable[[], Mapping[str, float]] | None = None
    measure_together: Callable[[Sequence[Subject]], Sequence[Measurement]] | None = None

    def __post_init__(self) -> None:
        if not self.name:
            raise ValueError("an objective must have a name, but got ''")
        limit = self.limit
        if limit is not None and (isinstance(limit, bool | str) or math.isnan(limit)):
            raise ValueError(f"objective {self.name!r}: limit must be a number, but got {limit!r}")
        if self.exact is not None and self.measure is not None:
            raise ValueError(f"objective {self.name!r} must be exact or measured, but got both")

    def loss(self, value: float) -> float:
        """The value, negated if it is to be maximised."""
        return -value if self.maximize else value

    def violation(self, value: float) -> float:
        """How far the value is beyond the limit, 0 if within."""
        if self.limit is None:
            return 0.0
        return max(0.0, self.loss(value) - self.loss(self.limit))

    def limit_text(self) -> str:
        """The limit as people write it: "params <= 10"."""
        return f"{self.name} {'>=' if self.maximize else '<='} {self.limit:.10g}"


@dataclass(frozen=True)
class Context:
    """What a study binds once and shows to its searcher.

    Attributes:
        space, objectives: those of the study.
        seen: (identity key) -> whether a trial of that identity was proposed.
        identify: (arch) -> identity key, of the network or of the written form, memoised.
        exact: (arch) -> values of the exact objectives, memoised.
    """

    space: SearchSpace
    objectives: tuple[Objective, ...]
    seen: Callable[[str], bool]
    identify: Callable[[Architecture], str]
    exact: Callable[[Architecture], Mapping[str, float]]

    def losses(self, trial: Trial) -> NDArray[np.float64]:
        """`float64[m]`, minimised; NaN where a failed trial has no value."""
        values = trial.values
        return np.array([o.loss(values.get(o.name, math.nan)) for o in self.objectives])

    def violation(self, values: Mapping[str, float]) -> float:
        """Sum over the known values of what each is beyond its limit, relative to the limit's size.

        Infinite where a value is not finite.
        """
        if not all(map(math.isfinite, values.values())):
            return math.inf
        return sum(
            o.violation(values[o.name]) / max(abs(o.limit), 1e-12)
            for o in self.objectives
            if o.limit is not None and o.name in values
        )


@dataclass(frozen=True, slots=True)
class Wait:
    """`Study.ask`: too many outcomes are open; tell one of `trials` first."""

    trials: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Exhausted:
    """There is nothing more to propose, and why."""

    reason: str


State = TypeVar("State")


class Searcher(Protocol[State]):
    """Three small functions over a context; no memory but the state. Instances carry settings only.

    `ask` may be costly and changes nothing. The folds are cheap and may consume the state they are
    given; replay after a crash runs the folds only. One that has something to say of its state, such as how
    good its model is, has a method `describe(state) -> Mapping[str, str]`, shown by `nas status`.
    """

    def init(self, context: Context) -> State:
        """The state of a search that has proposed nothing."""
        ...

    def ask(self, state: State, rng: np.random.Generator) -> Proposal | Exhausted:
        """The next proposal. It must not alter `state`."""
        ...

    def proposed(self, state: State, trial: Trial) -> State:
        """The state once `trial` was recorded, its outcome open."""
        ...

    def told(self, state: State, trial: Trial, rng: np.random.Generator) -> State:
        """The state once `trial` has its outcome. Trials are told in the order of their ids."""
        ...


class Trainer(Protocol):
    """Trains one configuration of hyperparameters of one network."""

    def fit(
        self, model: torch.nn.Module, hparams: Mapping[str, Scalar], epochs: int, seed: int, checkpoint: Path
    ) -> Sequence[Mapping[str, float]]:
        """Continues `checkpoint` (or starts it) until `epochs` are done, and loads them into `model`.

        Returns:
            The learning curve, one entry an epoch.

        Raises:
            Diverged: the loss is not finite.
        """
        ...


class Diverged(RuntimeError):
    """A loss became NaN or infinite."""
