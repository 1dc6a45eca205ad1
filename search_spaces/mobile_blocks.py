"""What the spaces of mobile networks share: rounded widths, inverted residuals, strides that fit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from nas.architecture import InvalidArchitecture
from search_spaces.fragments import ACTIVATIONS, Activation, Builder
from search_spaces.genes import Gene, Values
from search_spaces.operations import Operation

LAST_SIDE = 4
"""Smallest side of the last feature map where the strides are not given."""


def divisible(channels: float, divisor: int = 8) -> int:
    """The nearest multiple of `divisor`, the next one where that is less than nine tenths of `channels`.

    MobileNet's rule: `make_divisible` of tensorflow/models, research/slim/nets/mobilenet/mobilenet.py.
    """
    rounded = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    return rounded if rounded >= 0.9 * channels else rounded + divisor


# --- strides -----------------------------------------------------------------------------------------


def last_side(side: int, strides: Sequence[int]) -> int:
    """What convolutions of these strides leave of a side; 0 where a side is smaller than its stride."""
    for stride in strides:
        if side < stride:
            return 0
        side = (side - 1) // stride + 1
    return side


def strided(sides: Sequence[int], strides: Sequence[int]) -> tuple[int, ...]:
    """The sides behind convolutions of these strides."""
    return tuple([last_side(side, strides) for side in sides])


def fitting_strides(
    given: Sequence[int] | None, published: Sequence[int], side: int, shape: tuple[int, ...]
) -> tuple[int, ...]:
    """The strides of a network, of its stem first.

    Args:
        given: strides that a user wants; None for the published ones, of which as many as necessary, from
            the first one, are 1 so that the last feature map keeps a side of `LAST_SIDE`.
        published: as many as there must be.
        side: the shortest that the stem can see.
        shape: of the input, for the message.

    Raises:
        ValueError: there are too many or too few, one is no positive integer, or the input is too small.
    """
    if given is None:
        fitting = list(published)
        for place in range(len(fitting)):
            if last_side(side, fitting) >= LAST_SIDE:
                break
            fitting[place] = 1
        return tuple(fitting)
    if len(given) != len(published) or any(type(stride) is not int or stride < 1 for stride in given):
        raise ValueError(
            f"strides must be {len(published)} positive integers, the stem's first, but got {list(given)}"
        )
    if not last_side(side, given):
        raise ValueError(
            f"strides {list(given)} must leave something of a side of {side}, but of input_shape {shape} "
            "they do not: give smaller strides, or none, for the published ones as far as they fit"
        )
    return tuple(given)


# --- layers ------------------------------------------------------------------------------------------


def inverted_residual(
    b: Builder, p: Mapping[str, Any], hidden: int, squeezed: int = 0, gate: Activation = "sigmoid"
) -> int:
    """An inverted residual (MobileNetV2, Sandler et al. 2018, table 1), without its sum; gives its end.

    Args:
        p: kernel, stride, width (of the output) and activation.
        hidden: channels of the depthwise convolution; as many as come in: nothing expands them.
        squeezed: channels within squeeze-and-excitation (before the projection); 0 for none.
        gate: last activation of squeeze-and-excitation.
    """
    x = -1
    if hidden != b.shape(x)[0]:
        x = b.conv_bn_relu("expand", x, hidden, 1, activation=p["activation"])
    x = b.conv_bn_relu(
        "depthwise", x, hidden, p["kernel"], p["stride"], groups=hidden, activation=p["activation"]
    )
    if squeezed:
        x = b.squeeze_excite("se", x, squeezed, outer=gate)
    return b.conv_bn("project", x, p["width"], 1)


def _stem(b: Builder, p: Mapping[str, Any]) -> None:
    b.conv_bn_relu("block", -1, p["width"], 3, p["stride"], activation=p["activation"])


STEM = Operation(("stride", "width"), _stem, options={"activation": ACTIVATIONS})
"""A 3x3 convolution, batch norm and an activation."""


# --- arguments ---------------------------------------------------------------------------------------


def check_choices(name: str, choices: Sequence[int], least: int = 1, odd: bool = False) -> None:
    """Raises `ValueError` unless `choices` are one or more different integers from `least` on."""
    if (
        not choices
        or len(set(choices)) < len(choices)
        or any(type(c) is not int or c < least or (odd and c % 2 == 0) for c in choices)
    ):
        kind = "odd integers" if odd else "integers"
        raise ValueError(f"{name} must be different {kind} of at least {least}, but got {list(choices)}")


def check_activations(name: str, activations: Sequence[str]) -> None:
    """Raises `ValueError` unless each is one of `ACTIVATIONS`."""
    if set(activations) - set(ACTIVATIONS):
        raise ValueError(f"{name} must be of {list(ACTIVATIONS)}, but got {list(activations)}")


def check_values(graph: str, genes: Sequence[Gene], values: Values) -> None:
    """Raises `InvalidArchitecture`, naming graph and gene, unless each value is a choice of its gene."""
    for gene, value in zip(genes, values, strict=True):
        try:
            gene.index(value)
        except InvalidArchitecture as error:
            raise InvalidArchitecture(f"{graph or 'architecture'}: {error}") from error
