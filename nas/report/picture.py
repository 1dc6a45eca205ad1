"""A picture of an architecture: all its graphs, as a self-contained SVG.

It knows no space: whatever an op or parameter is called is shown, shortened where it is long, in full in a
tooltip. The same architecture gives the same bytes, whatever the ids of its nodes are.
"""

from __future__ import annotations

from collections.abc import Sequence

from nas.architecture import Architecture, Graph
from nas.report.box import COLOURS, NAME_SIZE, boxes, cut, facts, length, safe, text
from nas.report.layout import coordinate, layout

WIDTH = 1180  # of a row of graphs; a single graph may be wider
MARGIN, PANEL, BETWEEN = 8, 14, 14  # around the picture, inside a graph's frame, between frames
TITLE, CAPTION = 22, 26  # heights of a graph's name and of the caption
XMLNS = '"http://www.w3.org/2000/svg"'
LEAST = 300.0  # width that is given to a longer caption

_LIGHT = """
.arch{font-family:system-ui,-apple-system,'Segoe UI',Roboto,'Helvetica Neue',Arial,sans-serif}
.arch text{font-size:12px;fill:#1d2327}
.arch .op,.arch .name{font-weight:600}
.arch .par,.arch .port,.arch .name{fill:#5a646b}
.arch .par{font-size:10.5px}
.arch .port{font-size:9px}
.arch .mid{text-anchor:middle}
.arch .back{fill:#fff}
.arch .panel{fill:none;stroke:#e6e4df}
.arch .line{fill:none;stroke:#7b858c;stroke-width:1.4;stroke-linecap:round;stroke-linejoin:round}
.arch .box{stroke-width:1.3;fill-opacity:.13}
.arch .last .box{stroke-width:2.6}
.arch .none .box{stroke-dasharray:4 3;fill-opacity:0}
.arch .dead{opacity:.45;stroke-dasharray:4 3}
"""
_DARK = """
.arch text{fill:#e8eaeb}
.arch .par,.arch .port,.arch .name{fill:#a3adb3}
.arch .back{fill:#1c2125}
.arch .panel{stroke:#2c3338}
.arch .line{stroke:#87939a}
"""


def _style() -> str:
    light, dark = (
        [
            f".arch .{name} .box{{fill:{shades[mode]};stroke:{shades[mode]}}}"
            for name, shades in COLOURS.items()
        ]
        for mode in (0, 1)
    )
    rules = "".join([*_LIGHT.split("\n"), *light])
    return f"{rules}@media(prefers-color-scheme:dark){{{''.join([*_DARK.splitlines(), *dark])}}}"


STYLE = _style()
"""The rules of all pictures, for a page that shows several."""


def svg(arch: Architecture, *, inline: bool = False) -> str:
    """The picture as one SVG element, readable in light and dark mode.

    Args:
        inline: to stand in an HTML page that has the rules `STYLE`; else it is a file of its own.
    """
    x = y = tallest = right = 0.0
    parts = []
    for name, graph in arch.graphs:
        width, height, content = _panel(name if len(arch.graphs) > 1 else "", graph)
        if x and x + width > WIDTH:
            x, y, tallest = 0.0, y + tallest + BETWEEN, 0.0
        parts.append(_moved(content, x + MARGIN, y + MARGIN + CAPTION))
        right, tallest, x = max(right, x + width), max(tallest, height), x + width + BETWEEN
    caption = " · ".join((arch.space, *facts(arch.params)))
    right = max(right, min(length(caption, NAME_SIZE), LEAST))
    shown = cut(caption, right - 4, NAME_SIZE)
    words = _described(arch) if shown == caption else f"{caption}. {_described(arch)}"
    width, height = right + 2 * MARGIN, y + tallest + 2 * MARGIN + CAPTION
    size = f'width="{coordinate(width)}" height="{coordinate(height)}"'
    box = f'viewBox="0 0 {coordinate(width)} {coordinate(height)}"'
    return "".join(
        [
            f'<svg{"" if inline else " xmlns=" + XMLNS} class="arch" role="img" {box} {size}>',
            f"<title>{safe(f'Architecture of {arch.space}')}</title><desc>{safe(words)}</desc>",
            "" if inline else f"<style>{STYLE}</style>",
            '<rect class="back" width="100%" height="100%" rx="8"/>',
            text(shown, MARGIN + 2, MARGIN + 14, "name"),
            *parts,
            "</svg>",
        ]
    )


def _panel(title: str, graph: Graph) -> tuple[float, float, str]:
    """(width, height, content) of a graph in its frame."""
    place = {node.id: index for index, node in enumerate(graph)}
    inputs = [tuple(place[source] for source in node.inputs) for node in graph]
    shown = boxes(graph, _read(inputs))
    drawn = layout([(box.width, box.height) for box in shown], inputs, [box.ordered for box in shown])
    head = TITLE if title else 0
    width = max(drawn.width, min(length(title, NAME_SIZE), LEAST)) + 2 * PANEL
    height = drawn.height + 2 * PANEL + head
    content = []
    for kind, wanted in (("line", True), ("line dead", False)):
        lines = [line.path for line in drawn.lines if wanted is any(shown[node].read for node in line.to)]
        if lines:
            content.append(f'<path class="{kind}" d="{"".join(lines)}"/>')
    for box, centre, ports in zip(shown, drawn.centres, drawn.ports, strict=True):
        content.append(box.drawn(centre, ports))
    size = f'width="{coordinate(width)}" height="{coordinate(height)}"'
    parts = [
        f'<rect class="panel" {size} rx="10"/>',
        text(cut(title, width - 2 * PANEL + 4, NAME_SIZE), PANEL, PANEL + 9, "name") if title else "",
        _moved("".join(content), (width - drawn.width) / 2, PANEL + head),
    ]
    return width, height, "".join(parts)


def _moved(content: str, x: float, y: float) -> str:
    return f'<g transform="translate({coordinate(x)} {coordinate(y)})">{content}</g>'


def _read(inputs: Sequence[Sequence[int]]) -> list[bool]:
    """Whether the output, the last node, depends on each node."""
    read = [False] * (len(inputs) - 1) + [True]
    for node in reversed(range(len(inputs))):
        for source in inputs[node]:
            read[source] = read[source] or read[node]
    return read


def _described(arch: Architecture) -> str:
    """The picture in words, nodes counted from 1 in each graph: "net: 1 input, 2 conv kernel 3 of 1."."""
    sentences = []
    for name, graph in arch.graphs:
        place = {node.id: count for count, node in enumerate(graph, start=1)}
        nodes = []
        for node in graph:
            sources = " and ".join(str(place[source]) for source in node.inputs)
            words = (str(place[node.id]), node.op, *facts(node.params), f"of {sources}" if sources else "")
            nodes.append(" ".join(filter(None, words)))
        sentences.append(f"{name}: {', '.join(nodes)}.")
    return " ".join(sentences)
