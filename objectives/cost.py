"""Costs that are exact functions of the architecture: counted by shape inference, never guessed.

The network is costed in canonical form (dead nodes, zero edges and no-op skips removed), since that is
what is built and deployed. Where a published table is searched by its written form, its cost columns speak
of that form: `form = "written"`.
"""

from __future__ import annotations

from operator import attrgetter
from typing import Any, Literal, get_args

from nas.architecture import Architecture
from nas.protocols import Objective
from objectives import check_limit

Form = Literal["network", "written"]


def params(limit: float | None = None, form: Form = "network") -> Objective:
    """Number of trainable parameters."""
    return _cost("params", limit, form)


def macs(limit: float | None = None, form: Form = "network") -> Objective:
    """Multiply-accumulates of convolutions, linear layers and matmuls for one input."""
    return _cost("macs", limit, form)


def flops(limit: float | None = None, form: Form = "network") -> Objective:
    """2 x `macs`."""
    return _cost("flops", limit, form)


def peak_activation_bytes(limit: float | None = None, form: Form = "network") -> Objective:
    """Largest sum of float32 tensors alive at once for one input, in bytes."""
    return _cost("peak_activation_bytes", limit, form)


def _cost(name: str, limit: float | None, form: Form) -> Objective:
    """The objective of one attribute of `nas.protocols.Cost`.

    Raises:
        ValueError: the limit is not positive, or the form is neither "network" nor "written".
    """
    check_limit(limit)
    if form not in get_args(Form):
        raise ValueError(f"`form` must be one of {', '.join(map(repr, get_args(Form)))}, but got {form!r}")
    attribute = attrgetter(name)

    def exact(arch: Architecture, space: Any) -> float:
        return float(attribute(space.cost(space.canonical(arch) if form == "network" else arch)))

    return Objective(name, limit=limit, exact=exact)
