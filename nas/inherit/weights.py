"""The weights that a walk found, moved into the child: copied, widened, cut, or made to do nothing."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from nas.inherit.walk import NEW, Copied, Inheritance, Separated, Widening, diff

if TYPE_CHECKING:
    from torch import Tensor, nn


def inherit(
    child: nn.Module,
    parent: nn.Module,
    rng: np.random.Generator,
    widening: Widening = "zero",
    noise: float = 0.0,
) -> Inheritance:
    """Gives `child` what it can take over from `parent`, in place; the parent is left as it is.

    Args:
        child, parent: networks with `program` and `features` (see `search_spaces.modules.Network`); between
            others all tensors of the same name and shape are copied.
        widening: see `diff`.
        noise: standard deviation of what is added to replicated weights, relative to theirs: without it
            replicas stay equal for ever.

    Returns:
        What was taken over, and whether the child computes the same (before noise).
    """
    weights, old = child.state_dict(), parent.state_dict()
    programs = getattr(child, "program", None), getattr(parent, "program", None)
    features: Any = getattr(parent, "features", None)
    if programs[0] is None or programs[1] is None:
        return _inherit_by_name(child, weights, old)
    importance = {
        name.removesuffix(".weight"): tensor.flatten(1).abs().sum(1).double().cpu().numpy()
        for name, tensor in old.items()
        if tensor.ndim > 1
    }
    found = diff(programs[0], programs[1], features, importance, rng, widening)
    child.load_state_dict(carried(weights, old, found))
    for step in programs[0]:
        module = child.get_submodule(step.name)
        if step.name in found.identity:
            _make_identity(module)
        elif step.name in found.silent:
            module.get_parameter("weight").data.zero_()
    for depthwise, whole in found.separated.items():
        _separate(child, depthwise, old[f"{whole.parent}.weight"], whole)
    if noise:
        _add_noise(child, found, noise, rng)
    counted = sum(
        _overlap(weights[f"{name}.{kind}"], old[f"{copied.parent}.{kind}"], copied)
        for name, copied in found.copied.items()
        for kind in ("weight", "bias")
        if f"{name}.{kind}" in weights and f"{copied.parent}.{kind}" in old
    )
    counted += sum(
        child.get_submodule(name).get_parameter("weight").numel()
        for depthwise, whole in found.separated.items()
        for name in (depthwise, whole.pointwise)
    )
    return replace(found, share=counted / max(1, sum(p.numel() for p in child.parameters())))


def carried(fresh: Mapping[str, Tensor], old: Mapping[str, Tensor], found: Inheritance) -> dict[str, Tensor]:
    """The child's tensors: the parent's where they are inherited, `fresh` elsewhere.

    The same map carries an optimizer's momentum: `fresh` is then zeros, and both hold momentum by parameter.
    """
    tensors = {name: tensor.clone() for name, tensor in fresh.items()}
    for layer, copied in found.copied.items():
        for name in [n for n in tensors if n.rpartition(".")[0] == layer]:
            source = old.get(f"{copied.parent}.{name.rpartition('.')[2]}")
            if source is not None:
                _carry(tensors[name], source.to(tensors[name].device), copied)
    return tensors


def _carry(target: Tensor, source: Tensor, copied: Copied) -> None:
    """Writes what `target` inherits into it: a vector by channel, or weights by output and input channel."""
    import torch

    if target.ndim == 0:
        target.copy_(source)
        return
    out = torch.from_numpy(copied.out)
    rows = torch.nonzero(out != NEW).ravel()
    if target.ndim == 1:
        target[rows] = source[out[rows]]
        return
    frame, core = _middle(target.shape[2:], source.shape[2:]), _middle(source.shape[2:], target.shape[2:])
    block = source[(slice(None), slice(None), *core)]
    target[rows] = 0.0  # the frame of a larger kernel, and what meets new channels
    if target.shape[1] != len(copied.into):  # grouped: the inputs of each group stay
        place: Any = (rows, slice(None), *frame)
        target[place] = block[out[rows]]
        return
    into = torch.from_numpy(copied.into)
    columns = torch.nonzero(into != NEW).ravel()
    replicas = torch.bincount(into[columns], minlength=source.shape[1]).clamp(min=1)
    shared = replicas[into[columns]].to(block.dtype).view(1, -1, *(1 for _ in frame))
    values = block[out[rows]][:, into[columns]] / shared
    place = (rows[:, None], columns[None, :], *frame)
    target[place] = values


def _middle(sides: Sequence[int], others: Sequence[int]) -> tuple[slice, ...]:
    """Where in a kernel of these sides one of the other sides has its middle, as far as it fits."""
    return tuple(
        slice((side - min(side, other)) // 2, (side + min(side, other)) // 2)
        for side, other in zip(sides, others, strict=True)
    )


def _overlap(target: Tensor, source: Tensor, copied: Copied) -> int:
    """How many numbers of `target` come from `source`."""
    rows = int((copied.out != NEW).sum())
    if target.ndim == 1:
        return rows
    columns = int((copied.into != NEW).sum()) if target.shape[1] == len(copied.into) else target.shape[1]
    sides = (min(new, was) for new, was in zip(target.shape[2:], source.shape[2:], strict=True))
    return rows * columns * math.prod(sides)


def _make_identity(module: nn.Module) -> None:
    """Makes a square convolution or linear layer, or in eval mode a batch norm, pass its input on."""
    import torch
    from torch import nn

    with torch.no_grad():
        weight = module.get_parameter("weight")
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            weight.fill_((1 + module.eps) ** 0.5)
            return
        weight.zero_()
        centre = tuple(side // 2 for side in weight.shape[2:])
        for channel in range(weight.shape[0]):
            weight[(channel, channel if weight.shape[1] > 1 else 0, *centre)] = 1.0
        if getattr(module, "bias", None) is not None:
            module.get_parameter("bias").zero_()


def _separate(child: nn.Module, depthwise: str, weight: Tensor, whole: Separated) -> None:
    """Sets a depthwise and a 1x1 convolution to the best rank-1 factors of each input channel's kernels.

    The least squares of a convolution by a depthwise-separable one: of W[:, i] as a matrix (outputs x places)
    the largest singular value and its vectors (Eckart & Young 1936). Kernels are turned so that their sum is
    positive, which an activation in between lets pass. New channels keep their first weights.
    """
    import torch

    first, second = (
        child.get_submodule(name).get_parameter("weight").data for name in (depthwise, whole.pointwise)
    )
    rows, columns = np.flatnonzero(whole.out != NEW), np.flatnonzero(whole.into != NEW)
    kernels = weight[whole.out[rows]][:, whole.into[columns]].transpose(0, 1).double()
    u, s, v = torch.linalg.svd(kernels.flatten(2), full_matrices=False)  # [channels, outputs x places]
    size = s[:, 0].sqrt() * torch.where(v[:, 0].sum(1) >= 0, 1.0, -1.0)
    kernel = (size[:, None] * v[:, 0]).view(-1, 1, *weight.shape[2:])
    frame, core = _middle(first.shape[2:], weight.shape[2:]), _middle(weight.shape[2:], first.shape[2:])
    place: Any = (columns, slice(None), *frame)
    first[columns] = 0.0
    first[place] = kernel[(slice(None), slice(None), *core)].to(first)
    place = (rows[:, None], columns[None, :])
    second[place] = (size * u[:, :, 0].T).view(*place[0].shape[:1], -1, *[1] * len(frame)).to(second)


def _add_noise(child: nn.Module, found: Inheritance, noise: float, rng: np.random.Generator) -> None:
    """Tells replicas apart."""
    import torch

    for layer, copied in found.copied.items():
        weight = child.get_submodule(layer).get_parameter("weight")
        if weight.ndim == 1:
            continue
        twins = np.isin(
            copied.out, [c for c, n in Counter(copied.out.tolist()).items() if n > 1 and c != NEW]
        )
        rows = torch.from_numpy(np.flatnonzero(twins))
        drawn = torch.from_numpy(rng.standard_normal((len(rows), *weight.shape[1:])))
        with torch.no_grad():
            weight[rows] += (noise * weight[rows].std() if len(rows) else 0.0) * drawn.to(weight.dtype)


def _inherit_by_name(child: nn.Module, weights: dict[str, Tensor], old: Mapping[str, Tensor]) -> Inheritance:
    """Tensors of the same name and shape, where nothing is known of the layers."""
    same = {name for name, tensor in weights.items() if name in old and old[name].shape == tensor.shape}
    child.load_state_dict({name: old[name] if name in same else weights[name] for name in weights})
    params = dict(child.named_parameters())
    share = sum(params[name].numel() for name in same & set(params)) / max(
        1, sum(p.numel() for p in params.values())
    )
    return Inheritance(share=share)
