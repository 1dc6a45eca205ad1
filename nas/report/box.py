"""What a picture says of a node: its op, its parameters in short, a colour, and all of it in a tooltip.

Colours differ for the colour-blind too (after Okabe & Ito 2008), and never say what the text does not.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from html import escape

from nas.architecture import Graph, Node, Params
from nas.report.layout import PORT_GAP, Point, coordinate
from nas.report.view import scalar

WIDEST, NARROWEST = 168.0, 76.0  # of a box, but for many inputs
NAME_SIZE, PARAM_SIZE = 12.5, 10.5  # of letters

COLOURS = {  # light, dark
    "blue": ("#1f6fb2", "#6db3f2"),
    "orange": ("#b45f06", "#f5a95a"),
    "purple": ("#8246af", "#c7a0f0"),
    "green": ("#0b7f63", "#48cfae"),
    "pink": ("#b3306e", "#f48fbf"),
    "yellow": ("#7d6b00", "#dcc64a"),
    "grey": ("#7b858c", "#87939a"),
    "none": ("#97a1a8", "#6d7980"),
}
FAMILIES = (
    (r"none|zero|isolated|left_?out", "none"),
    (r"input|output|skip|^id|pass|add|sum|concat|cat|merge", "grey"),
    (r"dense|linear|fc|mlp|softmax", "pink"),
    (r"pool|gap|max|avg", "green"),
    (r"dil|atrous|residual", "purple"),
    (r"sep|depthwise|mb_?conv|inverted|shuffle|ghost", "orange"),
    (r"conv", "blue"),
)
"""The first that is found in an op's name gives its colour; any other op has one by its name."""

SHORT = {"kernel": "k", "expand": "e", "width": "w", "stride": "/", "dilation": "d", "groups": "g"}
"""Parameters that are written as one letter before the number, in this order."""


@dataclass(frozen=True)
class Box:
    """What is shown of a node.

    Attributes:
        name: its op, inputs counted.
        about: all that is to say of it.
        params: in short; empty if there is nothing to say.
        colour: of its op, a key of `COLOURS`.
        inputs: how many.
        small: a join, which says no more than its op.
        ordered: whether it has several inputs and their order means something; they are counted then.
        read: whether the output depends on it.
        last: whether it is the output.
    """

    name: str
    about: str
    params: str
    colour: str
    inputs: int
    small: bool
    ordered: bool
    read: bool
    last: bool
    width: float = 0.0

    @property
    def wanted(self) -> float:
        """The width that it needs."""
        text = max(length(self.name, NAME_SIZE), length(self.params, PARAM_SIZE)) + 18
        return max(min(text, WIDEST), 0.0 if self.small else NARROWEST, (PORT_GAP + 3) * self.inputs + 6.0)

    @property
    def height(self) -> float:
        return (24.0 if self.small else 28.0) + (10 if self.params else 0) + (9 if self.ordered else 0)

    def drawn(self, centre: Point, ports: Sequence[Point]) -> str:
        """SVG; the ports are where its inputs arrive."""
        x, y = centre
        states = (self.colour, "" if self.read else "dead", "last" if self.last else "")
        place = f'x="{coordinate(x - self.width / 2)}" y="{coordinate(y - self.height / 2)}"'
        size = f'width="{coordinate(self.width)}" height="{coordinate(self.height)}"'
        parts = [
            f'<g class="{" ".join(filter(None, states))}"><title>{safe(self.about)}</title>',
            f'<rect class="box" {place} {size} rx="{12 if self.small else 6}"/>',
        ]
        if self.ordered:
            parts += [
                text(str(count), px, py + 10, "port mid") for count, (px, py) in enumerate(ports, start=1)
            ]
            y += 4.5
        room = self.width - 10
        parts.append(text(cut(self.name, room, NAME_SIZE), x, y - (2.5 if self.params else -4), "op mid"))
        if self.params:
            parts.append(text(cut(self.params, room, PARAM_SIZE), x, y + 11.5, "par mid"))
        return "".join([*parts, "</g>"])


def boxes(graph: Graph, read: Sequence[bool]) -> list[Box]:
    """Of all nodes, each as wide as the widest but for small ones.

    Args:
        read: whether the output depends on each node.
    """
    several = sum(not node.inputs for node in graph) > 1
    joins = {node.op for node in graph if len(node.inputs) > 1}
    sources = 0
    found = []
    for node, needed in zip(graph, read, strict=True):
        sources += not node.inputs
        name = f"{node.op} {sources}" if several and not node.inputs else node.op
        last, params, colour = node is graph.output, label(node), family(node.op)
        remarks = ("the output" if last else "", "" if needed else "the output does not depend on it")
        found.append(
            Box(
                name=name,
                about=", ".join(filter(None, (name, *facts(node.params), *remarks))),
                params=params,
                colour=colour,
                inputs=len(node.inputs),
                small=node.op in joins and not params and colour == "grey",
                ordered=len(node.inputs) > 1 and node.op != "add",
                read=needed,
                last=last,
            )
        )
    widest = max((box.wanted for box in found if not box.small), default=0.0)
    return [replace(box, width=box.wanted if box.small else widest) for box in found]


def facts(params: Params) -> list[str]:
    """Parameters in full, as in "kernel 3"."""
    return [f"{name} {scalar(value)}" for name, value in params]


def label(node: Node) -> str:
    """The parameters of a node in short; a stride of 1 and what is False go without saying.

    >>> label(Node(1, "mbconv", (), (("expand", 6), ("kernel", 5), ("se", True), ("stride", 2))))
    'k5 e6 /2 se'
    """
    given = dict(node.params)
    words = [
        f"{short}{scalar(given[name])}"
        for name, short in SHORT.items()
        if name in given and not (name == "stride" and given[name] == 1)
    ]
    for name, value in given.items():
        if name not in SHORT and value is not False:
            named = value if isinstance(value, str) else f"{name} {scalar(value)}"
            words.append(name if value is True else named)
    return " ".join(words)


def family(op: str) -> str:
    """The name of an op's colour."""
    for pattern, colour in FAMILIES:
        if re.search(pattern, op, re.IGNORECASE):
            return colour
    digest = blake2b(op.encode(errors="replace"), digest_size=1).digest()[0]
    return [*COLOURS][digest % (len(COLOURS) - 2)]  # neither of the greys


# --- texts -------------------------------------------------------------------------------------------


def text(content: str, x: float, y: float, kind: str) -> str:
    """A line of text that starts (for the class "mid": has its middle) at a point."""
    return f'<text class="{kind}" x="{coordinate(x)}" y="{coordinate(y)}">{safe(content)}</text>'


def safe(content: str) -> str:
    """A text in XML, which holds no control characters and no lone surrogates."""
    shown = (c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in content)
    return escape("".join(shown), quote=False)


def cut(content: str, width: float, size: float) -> str:
    """As much of a text as there is room for."""
    content = " ".join(content.split())
    if length(content, size) <= width:
        return content
    while content and length(content + "…", size) > width:
        content = content[:-1]
    return content.rstrip() + "…"


def length(content: str, size: float) -> float:
    """About how wide a text is in a sans-serif font, rather more than less."""
    return size * sum(_breadth(character) for character in content)


def _breadth(character: str) -> float:
    if ord(character) > 0x2E7F:  # Chinese, Japanese, Korean, pictographs
        return 1.05
    if character in "mwMW@%":
        return 0.9
    if character in "ijltfrI.,:;|!'/ ·()[]":
        return 0.35
    return 0.72 if character.isupper() else 0.63
