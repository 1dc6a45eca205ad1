"""Weights files: a trained network as it was recorded, checked before it is believed."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

from nas.architecture import Architecture
from nas.protocols import SearchSpace
from nas.trial import Failure

if TYPE_CHECKING:
    import torch


def momentum_file(weights: Path) -> Path:
    """The file beside a weights file that holds the optimizer's state, where it was kept."""
    return weights.with_suffix(".momentum.safetensors")


class WeightsError(RuntimeError):
    """A weights file is missing, cut short or of another network; the message names it."""


def load_model(
    space: SearchSpace, arch: Architecture, weights: Path, digest: str | None = None
) -> torch.nn.Module:
    """The trained network of a written form, in eval mode, on the CPU.

    Args:
        weights: a safetensors file; no pickle is ever read.
        digest: sha256 that the file must have, None for no check.

    Raises:
        WeightsError: the file cannot be read, is not the recorded one, or does not fit the network.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    from nas.trainer import seeded

    if not weights.is_file():
        raise WeightsError(f"weights file {weights} must exist, but it does not: put back a copy")
    if digest is not None and (found := file_sha256(weights)) != digest:
        raise WeightsError(
            f"weights file {weights} must have sha256 {digest[:12]}…, but has {found[:12]}… "
            f"({weights.stat().st_size} bytes): it was cut short or changed; put back a copy"
        )
    try:
        state = load_file(weights)
        with seeded(0):  # the initial weights, which are replaced, are drawn from torch's global generator
            model = space.build(space.canonical(arch))
        model.load_state_dict(state)
    except (SafetensorError, OSError, RuntimeError) as error:
        raise WeightsError(
            f"weights file {weights} must hold the network's tensors, but {Failure.of(error).message}"
        ) from error
    return model.eval()


def file_sha256(path: Path) -> str:
    """Hex digest of a file."""
    return sha256(path.read_bytes()).hexdigest()
