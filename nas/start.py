"""What all configurations of a candidate begin with: its parent's weights, taken over and, where the function
changed, trained to give the parent's logits."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nas.architecture import Architecture
from nas.inherit import Inheritance, carried, inherit
from nas.inherit.morphisms import morphisms
from nas.protocols import Diverged, SearchSpace
from nas.seeding import Purpose, integer_seed, stream
from nas.weights import load_model, momentum_file

if TYPE_CHECKING:
    from torch import Tensor, nn

    from nas.trainer import SupervisedTrainer

FILE = "start.safetensors"
DISTILLED = "distilled.safetensors"

Momentum = Mapping[str, Mapping[str, "Tensor"]]
"""An optimizer's state by parameter and kind."""


@dataclass(frozen=True)
class Lender:
    """A parent that lends its weights.

    Attributes:
        architecture: in its written form.
        weights: the safetensors file, relative to the study's folder, and its sha256.
    """

    architecture: Architecture
    weights: str
    sha256: str | None


@dataclass(frozen=True)
class Start:
    """First weights.

    Attributes:
        weights: all tensors of the network by name.
        momentum: of its parameters, where the study keeps it.
        share: of the parameters, how many come from the parent, 0 to 1.
        distilled: epochs in which the network was trained to give the parent's logits.
        note: what the child differs in, and what became of the function.
    """

    weights: Mapping[str, Tensor]
    momentum: Momentum
    share: float
    distilled: int
    note: str


def started(
    architecture: Architecture,
    lender: Lender,
    space: SearchSpace,
    trainer: SupervisedTrainer,
    folder: Path,
    scratch: Path,
    seed: int,
    trial_id: int,
    distill: int,
) -> Start:
    """The start of a candidate; what is in `scratch` already is only read.

    Args:
        architecture: the candidate in its written form.
        trainer: what trains its configurations; it has the data.
        folder: the study's.
        seed: the study's.
        distill: epochs of distillation, where the child does not compute what its parent does.

    Raises:
        WeightsError: the lender's file is missing or broken.
    """
    path = scratch / FILE
    known = _read(path)
    if known is not None:
        return known
    from nas.trainer import seeded

    parent = load_model(space, lender.architecture, folder / lender.weights, lender.sha256)
    with seeded(integer_seed(seed, Purpose.INHERIT, trial_id)):
        child = space.build(space.canonical(architecture))
    found = inherit(child, parent, stream(seed, Purpose.INHERIT, trial_id))
    epochs = 0
    if distill and not found.eval_mode:
        epochs = _distil(
            child, parent, found, trainer, distill, integer_seed(seed, Purpose.DISTIL, trial_id), scratch
        )
    weights = {name: tensor.cpu() for name, tensor in child.state_dict().items()}
    momentum = _momentum(child, parent, found, folder / lender.weights)
    start = Start(weights, momentum, found.share, epochs, _note(child, parent, found, epochs))
    _write(path, start)
    return start


def _note(child: nn.Module, parent: nn.Module, found: Inheritance, distilled: int) -> str:
    """For example "kernel, wider; function kept"."""
    new: Any = getattr(child, "program", ())
    words = ", ".join(sorted(morphisms(new, getattr(parent, "program", ()), found))) or "the same network"
    if found.eval_mode:
        return f"{words}; function kept{'' if found.train_mode else ' in eval mode'}"
    return f"{words}; distilled for {distilled} epoch(s)" if distilled else f"{words}; function changed"


def _distil(
    child: nn.Module,
    parent: nn.Module,
    found: Inheritance,
    trainer: SupervisedTrainer,
    epochs: int,
    seed: int,
    scratch: Path,
) -> int:
    """Trains `child` in place, all but what is still the parent's; gives the number of epochs.

    A distillation that diverges is undone.
    """
    device = trainer.train[0].device
    before = {name: tensor.clone() for name, tensor in child.state_dict().items()}
    parent.to(device).eval()
    tutor = replace(trainer, horizon=epochs, teacher=parent, frozen=found.kept)
    try:
        tutor.fit(child, {}, epochs, seed, scratch / DISTILLED)
    except Diverged:
        child.load_state_dict(before)
        return 0
    return epochs


def _momentum(child: nn.Module, parent: nn.Module, found: Inheritance, weights: Path) -> Momentum:
    """The parent's momentum through the map of its weights; empty where none was kept."""
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    path = momentum_file(weights)
    if not path.exists():
        return {}
    try:
        kept = load_file(path)
    except (SafetensorError, OSError):  # as good as none
        return {}
    sizes = dict(child.named_parameters())
    momentum: dict[str, dict[str, Tensor]] = {}
    for kind in sorted({key.partition(":")[0] for key in kept}):
        old = {key.partition(":")[2]: tensor for key, tensor in kept.items() if key.startswith(f"{kind}:")}
        scalar = all(tensor.ndim == 0 for tensor in old.values())
        fresh = {
            name: torch.zeros(()) if scalar else torch.zeros_like(p, device="cpu")
            for name, p in sizes.items()
        }
        for name, tensor in carried(fresh, old, found).items():
            momentum.setdefault(name, {})[kind] = tensor
    return momentum


def _write(path: Path, start: Start) -> None:
    from safetensors.torch import save_file

    tensors = {f"model:{name}": tensor.contiguous() for name, tensor in start.weights.items()}
    for name, kinds in start.momentum.items():
        tensors |= {f"{kind}:{name}": tensor.contiguous() for kind, tensor in kinds.items()}
    facts = {"share": start.share, "distilled": start.distilled, "note": start.note}
    partial = path.with_name(path.name + ".partial")
    save_file(tensors, partial, {"start": json.dumps(facts)})
    partial.replace(path)


def _read(path: Path) -> Start | None:
    """What `_write` wrote; None if there is no such file, or a broken one."""
    from safetensors import SafetensorError, safe_open

    weights: dict[str, Tensor] = {}
    momentum: dict[str, dict[str, Tensor]] = {}
    try:
        with safe_open(path, framework="pt") as file:
            facts = json.loads(file.metadata()["start"])
            for key in file.keys():  # noqa: SIM118  not a dict
                kind, _, name = key.partition(":")
                if kind == "model":
                    weights[name] = file.get_tensor(key)
                else:
                    momentum.setdefault(name, {})[kind] = file.get_tensor(key)
    except (OSError, SafetensorError, KeyError, TypeError, ValueError):
        return None
    return Start(weights, momentum, facts["share"], facts["distilled"], facts["note"])
