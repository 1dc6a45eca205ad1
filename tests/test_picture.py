"""The picture of an architecture: what it shows, where it puts things, and that nothing escapes from it."""

from __future__ import annotations

import re
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np
import pytest

from nas.architecture import Architecture, Graph, Node, Params
from nas.report.box import COLOURS, cut, family, label, length
from nas.report.layers import Slots
from nas.report.layout import GAP, ROWS, Layout, Point, layout
from nas.report.picture import STYLE, WIDTH, svg

XML = "{http://www.w3.org/2000/svg}"


def architecture(*nodes: tuple[str, tuple[int, ...]] | tuple[str, tuple[int, ...], Params]) -> Architecture:
    graph = Graph(tuple(Node(i, node[0], node[1], *node[2:]) for i, node in enumerate(nodes)))
    return Architecture("mine", (("net", graph),))


def chain(length: int) -> Architecture:
    params = (("expand", 6), ("kernel", 5), ("stride", 2), ("width", 24))
    return architecture(("input", ()), *(("mbconv", (i,), params) for i in range(length)))


def cell(blocks: int = 5) -> Graph:
    """As NASNet's: two inputs, blocks of two ops and their sum, all sums side by side."""
    nodes, values = [Node(0, "input"), Node(1, "input")], [0, 1]
    for block in range(blocks):
        i = len(nodes)
        nodes += [
            Node(i, "sep_conv_5x5", (values[-1],)),
            Node(i + 1, "max_pool_3x3", (values[block],)),
            Node(i + 2, "add", (i, i + 1)),
        ]
        values.append(i + 2)
    return Graph((*nodes, Node(len(nodes), "concat", tuple(values[:1:-1]))))


def texts(picture: str, kind: str) -> list[str]:
    """The texts of a class, in the order they are drawn."""
    root = ET.fromstring(picture)
    return [str(t.text) for t in root.iter(f"{XML}text") if kind in t.attrib["class"].split()]


def tooltips(picture: str) -> list[str]:
    return [str(g.findtext(f"{XML}title")) for g in ET.fromstring(picture).iter(f"{XML}g") if g.get("class")]


# --- what is shown -------------------------------------------------------------------------------


def test_boxes_hold_ops_and_parameters_and_tooltips_all_of_them() -> None:
    params = (("activation", "relu"), ("expand", 6), ("kernel", 5), ("ratio", 0.25), ("stride", 1))
    picture = svg(architecture(("input", ()), ("mbconv", (0,), (*params, ("bias", True), ("se", False)))))
    assert texts(picture, "op") == ["input", "mbconv"]
    assert texts(picture, "par") == ["k5 e6 relu bias ratio 0.25"]
    facts = "activation relu, bias True, expand 6, kernel 5, ratio 0.25, se False, stride 1"
    assert tooltips(picture) == ["input", f"mbconv, {facts}, the output"]


def test_a_stride_shows_where_it_is_not_one() -> None:
    assert (
        label(Node(1, "conv", (), (("dilation", 2), ("groups", 4), ("stride", 2), ("width", 8))))
        == "w8 /2 d2 g4"
    )
    assert label(Node(1, "conv", (), (("stride", 1),))) == ""


def test_the_caption_names_the_space_and_its_parameters() -> None:
    arch = Architecture("ofa", (("net", cell()),), (("resolution", 224), ("width", 1.25)))
    picture = svg(arch)
    assert texts(picture, "name") == ["ofa · resolution 224 · width 1.25"]
    assert ET.fromstring(picture).findtext(f"{XML}title") == "Architecture of ofa"


def test_the_description_tells_the_whole_graph() -> None:
    arch = architecture(("input", ()), ("conv", (0,), (("kernel", 3),)), ("concat", (1, 0)))
    root = ET.fromstring(svg(arch))
    assert root.attrib["role"] == "img"
    assert root.findtext(f"{XML}desc") == "net: 1 input, 2 conv kernel 3 of 1, 3 concat of 2 and 1."


def test_inputs_are_counted_and_only_ordered_ones_at_their_readers() -> None:
    arch = architecture(("input", ()), ("input", ()), ("add", (0, 1)), ("concat", (2, 0, 1)))
    picture = svg(arch)
    assert texts(picture, "op") == ["input 1", "input 2", "add", "concat"]
    assert texts(picture, "port") == ["1", "2", "3"]


def test_what_the_output_does_not_depend_on_is_marked() -> None:
    picture = svg(architecture(("input", ()), ("conv", (0,)), ("pool", (1,)), ("conv", (0,))))
    marked = [tip.endswith("the output does not depend on it") for tip in tooltips(picture)]
    assert marked == [False, True, True, False]
    assert tooltips(picture)[3] == "conv, the output"
    dead = [p for p in ET.fromstring(picture).iter(f"{XML}path") if "dead" in p.attrib["class"]]
    assert [path.attrib["d"].count("M") for path in dead] == [2]


def test_several_graphs_have_names_and_stand_side_by_side_then_below() -> None:
    graph = cell(2)
    names = ["normal", "reduction", *(f"phase {i}" for i in range(6))]
    picture = svg(Architecture("cells", tuple((name, graph) for name in names)))
    assert texts(picture, "name") == ["cells", *names]
    moved = [
        tuple(map(float, re.findall(r"[\d.]+", g.attrib["transform"])))
        for g in ET.fromstring(picture).findall(f"{XML}g")
    ]
    assert moved[0][1] == moved[1][1] and moved[0][0] < moved[1][0]
    assert moved[-1][1] > moved[0][1]
    assert float(ET.fromstring(picture).attrib["width"]) <= WIDTH + 20
    assert texts(svg(Architecture("one", (("net", graph),))), "name") == ["one"]


def test_colours_go_by_the_kind_of_op() -> None:
    kinds = [
        "conv3x3-bn-relu",
        "sep_conv_3x3",
        "dil_conv_5x5",
        "max_pool_3x3",
        "linear",
        "skip_connect",
        "none",
    ]
    colours = [family(op) for op in kinds]
    assert colours == ["blue", "orange", "purple", "green", "pink", "grey", "none"]
    assert {family(f"op{i}") for i in range(99)} == set(COLOURS) - {"grey", "none"}
    for colour in COLOURS:  # in light and in dark
        assert STYLE.count(f".arch .{colour} .box{{fill:#") == 2


# --- how it is written ---------------------------------------------------------------------------


def test_a_file_stands_alone_and_an_element_is_as_small_as_may_be() -> None:
    alone, inline = svg(chain(20)), svg(chain(20), inline=True)
    assert f"<style>{STYLE}</style>" in alone
    assert "style" not in inline and "xmlns" not in inline
    assert re.findall(r"(?:https?:|url\(|@import|href|<script)[^\"]*", alone) == [
        "http://www.w3.org/2000/svg"
    ]
    assert len(inline) < 8000
    assert not re.search(r"\d\.\d\d", re.sub("<style>.*</style>", "", alone))  # tenths of a pixel


def test_the_same_architecture_gives_the_same_bytes_whatever_its_ids() -> None:
    renamed = Graph(tuple(Node(n.id * 7 + 3, n.op, tuple(i * 7 + 3 for i in n.inputs)) for n in cell()))
    one, other = (svg(Architecture("cells", (("net", graph),))) for graph in (cell(), renamed))
    assert one == other
    code = (
        "from tests.test_picture import *; from hashlib import sha256;"
        "print(sha256(svg(Architecture('cells', (('net', cell()),))).encode()).hexdigest())"
    )
    runs = {
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, check=True, env={"PYTHONHASHSEED": seed}
        ).stdout
        for seed in ("1", "2")
    }
    assert len(runs) == 1


@pytest.mark.parametrize(
    "evil",
    ["<script>alert(1)</script>", "]]>&amp;", "a\"b'c", "\x00\x1b\u2028\udcff", "名前" * 40, "x" * 500, ""],
)
def test_any_text_may_be_an_op_or_a_parameter(evil: str) -> None:
    graph = Graph((Node(0, evil), Node(1, evil, (0,), ((evil, evil),)), Node(2, evil, (0, 1))))
    picture = svg(Architecture(evil, ((evil, graph), ("other", graph)), ((evil, evil),)))
    picture.encode()
    root = ET.fromstring(picture)
    known = {"svg", "title", "desc", "style", "rect", "text", "g", "path"}
    assert {element.tag.removeprefix(XML) for element in root.iter()} == known
    assert float(root.attrib["width"]) < 1000
    if evil.isprintable():
        assert root.findtext(f"{XML}title") == f"Architecture of {evil}"
        assert all(tip.startswith(evil) for tip in tooltips(picture))


def test_long_texts_are_cut_to_their_room() -> None:
    assert cut("sep_conv_3x3", 100, 12) == "sep_conv_3x3"
    short = cut("sep_conv_3x3", 50, 12)
    assert short.endswith("…") and length(short, 12) <= 50 < length(short + "_", 12)


# --- where things are ----------------------------------------------------------------------------


def drawn_graphs(count: int) -> Iterator[tuple[list[Point], list[list[int]], list[bool], Layout]]:
    """Random graphs, among them deep ones and ones with several inputs and outputs."""
    rng = np.random.default_rng(0)
    for _ in range(count):
        inputs: list[list[int]] = [[]]
        for node in range(1, int(rng.integers(1, 28))):
            first = max(0, node - int(rng.integers(1, node + 1)))
            inputs.append(rng.integers(first, node, int(rng.integers(rng.random() > 0.1, 4))).tolist())
        sizes = [
            (max(float(rng.integers(40, 168)), 18.0 * len(s)), float(rng.integers(24, 40))) for s in inputs
        ]
        ordered = [len(sources) > 1 and rng.random() < 0.5 for sources in inputs]
        yield sizes, inputs, ordered, layout(sizes, inputs, ordered)


def corners(centre: Point, size: Point) -> tuple[float, float, float, float]:
    return centre[0] - size[0] / 2, centre[1] - size[1] / 2, centre[0] + size[0] / 2, centre[1] + size[1] / 2


def along(path: str) -> Iterator[tuple[float, float]]:
    """Points of a line, its head left out."""
    at = np.zeros(2)
    for command, numbers in re.findall(r"([A-Z])([-\d. ]+)", path.partition("m")[0]):
        values = [float(value) for value in numbers.split()]
        if command == "V":
            values = [float(at[0]), *values]
        points = [at, *np.array(values).reshape(-1, 2)]
        if command != "M":
            for t in np.linspace(0, 1, 25):
                curve = points
                while len(curve) > 1:  # de Casteljau
                    curve = [(1 - t) * a + t * b for a, b in pairwise(curve)]
                yield float(curve[0][0]), float(curve[0][1])
        at = points[-1]


def test_boxes_lie_apart_and_lines_run_through_none_of_them() -> None:
    for sizes, inputs, _, drawn in drawn_graphs(60):
        boxes = [corners(centre, size) for centre, size in zip(drawn.centres, sizes, strict=True)]
        for i, (left, top, right, bottom) in enumerate(boxes):
            assert left > -0.1 and top > -0.1 and right < drawn.width + 0.1 and bottom < drawn.height + 0.1
            for other in boxes[:i]:
                beside = max(left, other[0]) - min(right, other[2]) > GAP - 0.1
                assert beside or max(top, other[1]) - min(bottom, other[3]) > GAP - 0.1
        points = [point for line in drawn.lines for point in along(line.path)]
        for x, y in points:
            assert -0.1 < x < drawn.width + 0.1 and -0.1 < y < drawn.height + 0.1
            assert not any(
                box[0] + 0.2 < x < box[2] - 0.2 and box[1] + 0.2 < y < box[3] - 0.2 for box in boxes
            )
        for node, sources in enumerate(inputs):  # an end for each input, on the upper edge
            left, top, right, _ = boxes[node]
            assert len(drawn.ports[node]) == len(sources)
            assert all(left < x < right and y == pytest.approx(top) for x, y in drawn.ports[node])


def test_lines_lead_from_each_input_to_its_port() -> None:
    for _, inputs, ordered, drawn in drawn_graphs(60):
        slots = Slots.of(inputs, ordered)
        for node, sources in enumerate(inputs):
            origins = [origin(slots, slot) for slot in slots.above[node]]
            assert origins == sources if ordered[node] else sorted(origins) == sorted(sources)
        ends = np.array([[*along(line.path)][-1] for line in drawn.lines]).reshape(-1, 2)
        for ports in drawn.ports:
            assert all(
                np.abs(ends - port).max(1).min() < 0.6 for port in ports
            )  # straight within half a pixel


def origin(slots: Slots, slot: int) -> int:
    """The node whose lines run through a slot."""
    return slot if slot < slots.nodes else origin(slots, slots.above[slot][0])


def heights(drawn: Layout) -> list[float]:
    return sorted({round(y, 1) for _, y in drawn.centres})


def laid(inputs: Sequence[Sequence[int]]) -> Layout:
    return layout([(80.0, 28.0)] * len(inputs), inputs, [False] * len(inputs))


def test_a_chain_goes_straight_down_and_a_long_one_in_columns() -> None:
    drawn = laid([[], *([i] for i in range(ROWS - 1))])
    assert len({x for x, _ in drawn.centres}) == 1 and drawn.width == 80
    assert [y for _, y in drawn.centres] == heights(drawn)
    drawn = laid([[], *([i] for i in range(2 * ROWS + 1))])
    assert len({round(x) for x, _ in drawn.centres}) == 3
    assert len(heights(drawn)) <= ROWS
    assert drawn.width < drawn.height


def test_the_longest_way_is_straight_beside_what_skips_it() -> None:
    drawn = laid([[], [0], [1], [0, 2], [3], [4], [1, 5], [6]])
    assert max(x for x, _ in drawn.centres) - min(x for x, _ in drawn.centres) < 0.5


def test_nodes_stand_above_their_readers_and_not_at_the_top() -> None:
    drawn = laid([[], [0], [1], [0], [2, 3]])  # 3 reads the input, late
    assert drawn.centres[3][1] == drawn.centres[2][1]


def test_a_graph_that_can_be_drawn_without_crossings_is() -> None:
    tree = [[], [0], [0], [2], [1], [2], [1], [1]]  # listed so that siblings cross
    slots = Slots.of(tree, [False] * len(tree))
    places = {slot: place for row in slots.rows for place, slot in enumerate(row)}
    upper = [places[tree[node][0]] for node in slots.rows[2]]
    assert upper == sorted(upper)


def test_it_is_quick_for_large_graphs() -> None:
    rng = np.random.default_rng(0)
    inputs = [[], *([i - 1, int(rng.integers(max(0, i - 9), i))] for i in range(1, 200))]
    start = time.process_time()
    laid(inputs)
    assert time.process_time() - start < 5


def test_importing_loads_neither_torch_nor_networkx() -> None:
    code = (
        "import sys, nas.report.picture; sys.exit(bool({'torch', 'networkx', 'plotly'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
