"""What happened to one candidate: a proposal, and its outcome once there is one."""

from __future__ import annotations

import traceback
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from nas.architecture import Architecture, Scalar

FailureKind = Literal["infeasible", "oom", "nan", "timeout", "crash", "lost"]


@dataclass(frozen=True, slots=True)
class Proposal:
    """What a searcher asks to be evaluated.

    Attributes:
        architecture: the candidate in its written form.
        parents: trial ids; the first one lends its weights.
        origin: how it came about: "sample", "mutate", "crossover" …
        epochs: a budget that overrides the study's, if given.
        hints: further scalars for the evaluator, recorded as they are.
    """

    architecture: Architecture
    parents: tuple[int, ...] = ()
    origin: str = ""
    epochs: int | None = None
    hints: Mapping[str, Scalar] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """NumPy's numbers become Python's, lists tuples: what is recorded reads back equal."""
        object.__setattr__(self, "parents", tuple(int(parent) for parent in self.parents))
        plain = {
            name: value.item() if hasattr(value, "item") else value for name, value in self.hints.items()
        }
        object.__setattr__(self, "hints", plain)


@dataclass(frozen=True, slots=True)
class Result:
    """A successful outcome.

    Attributes:
        values: one finite number an objective, exact ones included, in the objective's own unit and sign.
        details: what a measurement says beside its value, e.g. {"latency_ms": {"spread": .02}}.
        hparams: the hyperparameters that won the nested search.
        curve: the winner's learning curve, one entry an epoch: {"epoch", "train_loss", "error" …}.
        cost: "epochs" of all configurations together, with "epochs_distilled", those of distillation from
            the parent; "epochs_lost" to kills or divergence in the middle of a rung; "seconds" of wall time.
        weights: path of the winner's safetensors file, relative to the study's folder.
        weights_sha256: hex digest of that file.
        inherited: share of the parameters whose first values came from `parents[0]`, 0 to 1.
        note: what it took over from `parents[0]`, or why nothing, in one line.
    """

    values: Mapping[str, float]
    details: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    hparams: Mapping[str, Scalar] = field(default_factory=dict)
    curve: tuple[Mapping[str, float], ...] = ()
    cost: Mapping[str, float] = field(default_factory=dict)
    weights: str | None = None
    weights_sha256: str | None = None
    inherited: float = 0.0
    note: str = ""


@dataclass(frozen=True, slots=True)
class Failure:
    """An unsuccessful outcome: data, not an exception.

    Attributes:
        kind: "infeasible" (violates a limit), "oom", "nan" (diverged), "timeout", "crash", or "lost"
            (its process was killed from outside, also when tried again).
        message: one line for people.
        values: the exact objectives, filled in by the study, so that failed trials can be ranked.

    Raises:
        ValueError: the kind is none of these.
    """

    kind: FailureKind
    message: str = ""
    values: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.kind not in get_args(FailureKind):
            raise ValueError(f"failure kind must be one of {get_args(FailureKind)}, but got {self.kind!r}")

    @classmethod
    def of(cls, error: BaseException) -> Failure:
        """What an exception says: "oom" for want of memory of any device, else "crash", with its place."""
        text = " ".join(str(error).split())[:500]
        frames = traceback.extract_tb(error.__traceback__)
        place = f" ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""
        oom = isinstance(error, MemoryError) or any(sign in text.lower() for sign in _OUT_OF_MEMORY)
        return cls("oom" if oom else "crash", f"{type(error).__name__}: {text}{place}")


_OUT_OF_MEMORY = (
    "out of memory",  # CUDA
    "can't allocate memory",  # torch's CPU allocator
    "not enough memory",  # torch's CPU allocator on other systems
    "could not create a memory",  # oneDNN
    "bad_alloc",  # C++
)
"""How libraries word that there is no memory left."""

Outcome = Result | Failure


@dataclass(frozen=True, slots=True)
class Trial:
    """One candidate of a study. Ids start at 0 and have no gaps."""

    id: int
    proposal: Proposal
    outcome: Outcome | None = None

    @property
    def architecture(self) -> Architecture:
        """The candidate in its written form."""
        return self.proposal.architecture

    @property
    def values(self) -> Mapping[str, float]:
        """The known values by objective name: all of them for a result, the exact ones for a failure."""
        return self.outcome.values if self.outcome is not None else {}

    @property
    def ok(self) -> bool:
        """Whether the trial ended with a result."""
        return isinstance(self.outcome, Result)


# --- plain data for JSON ---------------------------------------------------------------------------


def proposal_to_dict(proposal: Proposal) -> dict[str, Any]:
    return {
        "architecture": proposal.architecture.to_dict(),
        "parents": list(proposal.parents),
        "origin": proposal.origin,
        "epochs": proposal.epochs,
        "hints": dict(proposal.hints),
    }


def proposal_from_dict(data: Mapping[str, Any]) -> Proposal:
    return Proposal(
        Architecture.from_dict(data["architecture"]),
        tuple(data["parents"]),
        data["origin"],
        data["epochs"],
        data["hints"],
    )


def outcome_to_dict(outcome: Outcome) -> dict[str, Any]:
    if isinstance(outcome, Failure):
        return {"kind": outcome.kind, "message": outcome.message, "values": dict(outcome.values)}
    return {
        "values": dict(outcome.values),
        "details": {name: dict(detail) for name, detail in outcome.details.items()},
        "hparams": dict(outcome.hparams),
        "curve": [dict(entry) for entry in outcome.curve],
        "cost": dict(outcome.cost),
        "weights": outcome.weights,
        "weights_sha256": outcome.weights_sha256,
        "inherited": outcome.inherited,
        "note": outcome.note,
    }


def outcome_from_dict(data: Mapping[str, Any]) -> Outcome:
    if "kind" in data:
        return Failure(data["kind"], data["message"], data["values"])
    return Result(
        data["values"],
        data["details"],
        data["hparams"],
        tuple(data["curve"]),
        data["cost"],
        data["weights"],
        data["weights_sha256"],
        data.get("inherited", 0.0),
        data.get("note", ""),
    )
