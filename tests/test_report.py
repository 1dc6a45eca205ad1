"""The report page: one file, no network, nothing from a study runs, the numbers are right, odd studies."""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys
import time
from dataclasses import dataclass, field, replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nas.architecture import Architecture, Graph, Node
from nas.pareto import front, hypervolume, knee
from nas.protocols import Objective
from nas.report import ReportView, write_report
from nas.report.page import PICTURES
from nas.report.picture import STYLE, svg
from nas.report.view import number, quantity
from nas.trial import Failure, FailureKind, Outcome, Proposal, Result, Trial

EVIL = "<script>alert(1)</script></script>"
ERROR, LATENCY, PARAMS = (
    Objective("error"),
    Objective("latency_ms", limit=4.5),
    Objective("params", limit=200_000),
)
THREE = (ERROR, LATENCY, PARAMS)
FIVE = (*THREE, Objective("flops"), Objective("accuracy", maximize=True))
KINDS: tuple[FailureKind, ...] = ("oom", "nan", "timeout", "crash", "lost", "infeasible")


def fake_architecture(rng: np.random.Generator, op: str = "mbconv") -> Architecture:
    depth = int(rng.integers(3, 9))
    nodes = [Node(0, "input")]
    for i in range(1, depth):
        params = (("kernel", int(rng.choice([3, 5, 7]))), ("out", int(rng.integers(1, 9)) * 8), ("stride", 1))
        nodes.append(Node(i, op, (i - 1,), params))
    nodes.append(Node(depth + 1, "add", (depth - 1, max(0, depth - 3))))
    return Architecture("chain", (("net", Graph(tuple(nodes))),), (("depth", depth), ("width", 16)))


def fake_outcome(rng: np.random.Generator, objectives: tuple[Objective, ...], fail: float) -> Outcome:
    size = float(rng.uniform(0, 1))
    error = 1.2 + 9 * (1 - size) ** 2 + float(rng.gamma(1.2, 1.3))
    known = {
        "error": error,
        "latency_ms": 0.3 + 4 * size + float(rng.uniform(0, 1.2)),
        "params": float(round(3000 * 10 ** (2 * size + rng.uniform(-0.1, 0.2)))),
        "flops": float(round(1e6 * 10 ** (1.5 * size + rng.uniform(-0.3, 0.3)))),
        "accuracy": 100 - error + float(rng.normal(0, 0.3)),
    }
    values = {o.name: known[o.name] for o in objectives}
    if rng.random() < fail:
        kind = KINDS[int(rng.integers(len(KINDS)))]
        message = f"{kind}: candidate needs {known['params']:.0f} parameters and <b>more</b> memory than 2 GB"
        return Failure(kind, message, {name: v for name, v in values.items() if name in ("params", "flops")})
    epochs = 9
    curve = tuple(
        {
            "epoch": e,
            "train_loss": 2.3 / e,
            "error": error + (80 - error) * math.exp(-0.9 * e) + float(rng.gamma(1, 0.2)),
        }
        for e in range(1, epochs + 1)
    )
    hparams = {"lr": 10 ** float(rng.uniform(-2, -0.3)), "weight_decay": 10 ** float(rng.uniform(-5, -2))}
    cost = {"epochs": float(rng.integers(20, 60)), "seconds": float(rng.uniform(5, 40))}
    return Result(values, {}, hparams, curve, cost)


def fake_view(
    n: int, objectives: tuple[Objective, ...] = THREE, *, seed: int = 0, fail: float = 0.2, pending: int = 2
) -> ReportView:
    """A study of `n` trials, the last `pending` of them open."""
    rng = np.random.default_rng(seed)
    trials = []
    for i in range(n):
        parents = tuple(int(p) for p in rng.integers(0, i, size=min(i, 2))) if i > 4 else ()
        proposal = Proposal(fake_architecture(rng), parents, "crossover" if parents else "sample")
        trials.append(Trial(i, proposal, fake_outcome(rng, objectives, fail) if i < n - pending else None))
    view = ReportView("runs/demo", objectives, trials)
    losses = view.losses(trials)
    ids = [int(i) for i in front(losses)]
    worst = (
        {o.name: o.loss(float(np.nanmax(losses[:, place]))) for place, o in enumerate(objectives)}
        if ids
        else None
    )
    return replace(
        view,
        front=ids,
        knee=int(knee(losses)) if ids else None,
        reference=worst,
        remeasured={
            i: {"latency_ms": trials[i].values["latency_ms"] * 1.04}
            for i in ids
            if "latency_ms" in trials[i].values
        },
        settings_toml='[study]\nname = "demo"  # <&>\nseed = 0\n',
        data={"name": "digits", "training images": "1,257", "classes": "10"},
        notes=["Latency was measured on 1 thread of a busy machine.", "2 weights files were missing."],
        test={i: trials[i].values["error"] + 0.4 for i in ids if "error" in trials[i].values},
        models={i: f"models/{i:04d}" for i in ids},
    )


@dataclass
class Page(HTMLParser):
    """What a browser would make of the page."""

    scripts: list[tuple[dict[str, str | None], str]] = field(default_factory=list)
    starts: list[tuple[str, dict[str, str | None]]] = field(default_factory=list)
    text: str = ""
    numbers: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__init__()
        self.inside = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.starts.append((tag, dict(attrs)))
        self.inside = tag
        if tag == "script":
            self.scripts.append((dict(attrs), ""))
        if tag == "data":
            self.numbers[str(dict(attrs)["id"])] = str(dict(attrs)["value"])

    def handle_endtag(self, tag: str) -> None:
        self.inside = ""

    def handle_data(self, data: str) -> None:
        if self.inside == "script":
            attrs, code = self.scripts.pop()
            self.scripts.append((attrs, code + data))
        elif self.inside != "style":
            self.text += data

    @property
    def data(self) -> dict[str, dict[str, Any]]:
        return json.loads(self.scripts[0][1])


def page_of(folder: Path, view: ReportView) -> tuple[str, Page]:
    path = folder / "report.html"
    write_report(path, view)
    source = path.read_text(encoding="utf-8")
    page = Page()
    page.feed(source)
    page.close()
    assert [p.name for p in folder.iterdir()] == ["report.html"]
    return source, page


def check(page: Page, view: ReportView) -> None:
    """What holds for every page: three scripts, known trials, all figures have their places."""
    assert [attrs.get("type") for attrs, _ in page.scripts] == ["application/json", None, None]
    boxes = {attrs["id"] for _, attrs in page.starts if attrs.get("class") == "figure"}
    assert boxes == set(page.data["figures"])
    assert set(page.data["trials"]) == {str(t.id) for t in view.trials}
    for figure in page.data["figures"].values():
        for trace in figure["data"]:
            assert len(trace["x"]) == len(trace["y"]) == len(trace.get("customdata", trace["x"]))


# --- numbers -------------------------------------------------------------------------------------


def test_header_numbers_are_those_of_the_study(tmp_path: Path) -> None:
    view = fake_view(40)
    _, page = page_of(tmp_path, view)
    check(page, view)
    results = [t.outcome for t in view.trials if isinstance(t.outcome, Result)]
    bound = [view.reference[o.name] for o in THREE]
    rows = [[r.values[o.name] for o in THREE] for r in results]
    feasible = [row for row in rows if row[1] <= 4.5 and row[2] <= 200_000]
    assert len(feasible) < len(rows)
    expected = {
        "done": len(results),
        "failed": sum(isinstance(t.outcome, Failure) for t in view.trials),
        "open": 2,
        "front": len(view.front),
        "hypervolume": hypervolume(feasible, bound),
        "epochs": sum(r.cost["epochs"] for r in results),
        "minutes": sum(r.cost["seconds"] for r in results) / 60,
    }
    assert {name: float(value) for name, value in page.numbers.items()} == pytest.approx(expected)


def test_a_maximised_objective_counts_in_its_own_sign(tmp_path: Path) -> None:
    objectives = (Objective("accuracy", maximize=True, limit=50.0), PARAMS)
    arch = fake_architecture(np.random.default_rng(0))
    values = [(90.0, 1000.0), (95.0, 3000.0), (40.0, 10.0)]
    trials = [
        Trial(i, Proposal(arch), Result({"accuracy": a, "params": p})) for i, (a, p) in enumerate(values)
    ]
    view = ReportView("t", objectives, trials, (0, 1), 0, {"accuracy": 80.0, "params": 5000.0})
    _, page = page_of(tmp_path, view)
    assert float(page.numbers["hypervolume"]) == 10 * 4000 + 5 * 2000
    assert view.status == {0: "knee", 1: "front", 2: "infeasible"}
    assert [t.id for t in view.winners] == [1, 0]


def test_long_histories_are_sampled_and_end_with_the_same_volume() -> None:
    view = fake_view(600, pending=0)
    ids, volumes = view.history
    bound = [view.reference[o.name] for o in THREE]
    assert ids[0] == 0 and ids[-1] == 599 and len(ids) < 200
    assert volumes == sorted(volumes)
    assert volumes[-1] == pytest.approx(hypervolume(view.losses(view.trials), bound))


def test_tables_show_front_remeasurement_tests_and_models(tmp_path: Path) -> None:
    view = fake_view(24)
    source, page = page_of(tmp_path, view)
    for i in view.front:
        assert f"again {number(view.remeasured[i]['latency_ms'])}" in page.text
        assert f'href="./models/{i:04d}"' in source
        rows = dict(page.data["trials"][str(i)]["rows"])
        assert rows["test error"] == quantity("error", view.test[i])
    assert "★ knee" in page.text
    for failure in (t.outcome for t in view.failed):
        assert failure.message in page.text
    first = [int(m) for m in re.findall(r'<tr data-trial="(\d+)"', source)][: len(view.front)]
    assert first == sorted(view.front, key=lambda i: view.by_id[i].values["error"])


# --- self-containment and escaping ---------------------------------------------------------------


def test_the_page_needs_no_network(tmp_path: Path) -> None:
    source, page = page_of(tmp_path, fake_view(24))
    for tag, attrs in page.starts:
        assert tag not in ("link", "iframe", "base", "img", "object", "embed"), tag
        for name in ("src", "srcset", "href", "action", "data", "poster"):
            assert "//" not in (attrs.get(name) or ""), (tag, attrs)
    own = source.replace(page.scripts[1][1], "")
    assert not re.search(r"https?:|@import|url\(|fetch\(|XMLHttpRequest|import\(", own)
    policy = next(a["content"] for t, a in page.starts if a.get("http-equiv") == "Content-Security-Policy")
    assert "default-src 'none'" in policy
    assert "http" not in policy and "unsafe-eval" not in policy


def test_the_policy_allows_exactly_the_pages_scripts(tmp_path: Path) -> None:
    from base64 import b64encode
    from hashlib import sha256

    _, page = page_of(tmp_path, fake_view(3))
    policy = next(a["content"] for t, a in page.starts if a.get("http-equiv") == "Content-Security-Policy")
    hashes = [b64encode(sha256(code.encode()).digest()).decode() for _, code in page.scripts[1:]]
    assert "script-src 'sha256-{}' 'sha256-{}';".format(*hashes) in policy


@pytest.mark.parametrize(
    "evil", [EVIL, "--><img src=x onerror=alert(1)>", "'\"><svg onload=alert(1)>", "</pre>\u2028$title"]
)
def test_nothing_from_a_study_becomes_markup(tmp_path: Path, evil: str) -> None:
    plain, evil_view = fake_view(12), fake_view(12)
    objective = Objective(evil, limit=3.0)
    arch = Architecture(evil, ((evil, Graph((Node(0, evil, (), ((evil, evil),)),))),), ((evil, evil),))

    def spoilt(t: Trial) -> Trial:
        outcome: Outcome | None = t.outcome
        if isinstance(outcome, Result):
            curve = tuple({"epoch": c["epoch"], evil: c["error"]} for c in outcome.curve)
            outcome = replace(
                outcome, values={**outcome.values, evil: 1.0}, hparams={evil: evil}, curve=curve
            )
        if isinstance(outcome, Failure):
            outcome = replace(outcome, message=evil)
        return Trial(t.id, Proposal(arch, t.proposal.parents, evil), outcome)

    view = replace(
        evil_view,
        title=evil,
        objectives=(ERROR, LATENCY, objective),
        trials=[spoilt(t) for t in evil_view.trials],
        reference={"error": 20.0, "latency_ms": 6.0, evil: 4.0},
        settings_toml=evil,
        data={evil: evil},
        notes=[evil],
        models=dict.fromkeys(evil_view.front, evil),
    )
    source, page = page_of(tmp_path, view)
    check(page, view)
    assert evil not in source
    assert page.scripts[1:] == page_of(tmp_path, plain)[1].scripts[1:]
    for tag, attrs in page.starts:
        assert tag not in ("img",) and not any(name.startswith("on") for name in attrs)
        assert tag != "svg" or set(attrs) in (
            {"viewbox", "aria-hidden"},
            {"class", "role", "viewbox", "width", "height"},
        )
    assert "<" not in page.scripts[0][1]
    assert evil in page.data["trials"]["0"]["architecture"]  # whole, and as text
    for figure in page.data["figures"].values():
        assert "<script" not in json.dumps(figure["layout"])


def test_a_models_path_is_never_a_scheme(tmp_path: Path) -> None:
    view = replace(fake_view(12), models=dict.fromkeys(fake_view(12).front, "javascript:alert(1)"))
    _, page = page_of(tmp_path, view)
    links = [attrs["href"] for tag, attrs in page.starts if tag == "a"]
    assert set(links) == {"./javascript%3Aalert%281%29"}


# --- odd studies ---------------------------------------------------------------------------------


@pytest.mark.parametrize("objectives", [(ERROR,), THREE[:2], THREE, FIVE[:4], FIVE], ids=len)
@pytest.mark.parametrize(
    ("n", "fail", "pending"), [(0, 0.2, 0), (1, 0, 0), (1, 0, 1), (6, 1, 1), (30, 0.3, 3)]
)
def test_odd_studies(
    tmp_path: Path, objectives: tuple[Objective, ...], n: int, fail: float, pending: int
) -> None:
    view = fake_view(n, objectives, fail=fail, pending=pending)
    _, page = page_of(tmp_path, view)
    check(page, view)
    assert float(page.numbers["failed"]) == len(view.failed)
    if view.front:
        scatters = {1: 1, 2: 1, 3: 3, 4: 6, 5: 4}[len(objectives)]
        assert sum(name.startswith("tradeoff") for name in page.data["figures"]) == scatters
        assert ("parallel" in page.data["figures"]) == (len(objectives) > 2)
        assert {"hypervolume-plot", "curves"} <= set(page.data["figures"])


def test_partial_and_non_finite_values(tmp_path: Path) -> None:
    arch = fake_architecture(np.random.default_rng(0))
    outcomes: list[Outcome | None] = [
        Result({"error": math.nan, "latency_ms": math.inf, "params": 0.0}, curve=({"error": math.nan},)),
        Result({"error": 3.0}, curve=({"epoch": 1, "other": 2.0},), cost={"seconds": math.nan}),
        Result(
            {"error": 3.0, "latency_ms": -1.0, "params": 5.0},
            hparams={"flag": True, "name": "x", "lr": math.nan},
        ),
        Failure("nan", "", {"params": 7.0, "latency_ms": math.nan}),
        None,
    ]
    trials = [Trial(i, Proposal(arch), outcome) for i, outcome in enumerate(outcomes)]
    view = ReportView("odd", THREE, trials, (1, 2), 2, {"error": 5.0, "latency_ms": 2.0, "params": 9.0})
    _, page = page_of(tmp_path, view)
    check(page, view)
    assert float(page.numbers["hypervolume"]) == 2 * 3 * 4


def test_long_architectures_are_cut_under_the_pointer_and_whole_in_the_table(tmp_path: Path) -> None:
    cell = Graph((Node(0, "input"), *(Node(i, "conv", (i - 1,)) for i in range(1, 30))))
    arch = Architecture("cells", (("normal", cell), ("reduction", cell)))
    view = ReportView("long", (ERROR,), [Trial(0, Proposal(arch), Result({"error": 1.0}))], (0,), 0)
    source, page = page_of(tmp_path, view)
    assert page.data["trials"]["0"]["architecture"].splitlines()[-1] == "… 38 more lines"
    assert "[reduction]" in page.text and "29  conv ← 28" in page.text and "60 nodes" in source


def test_the_front_is_drawn_and_the_knee_shown(tmp_path: Path) -> None:
    view = fake_view(24)
    source, _ = page_of(tmp_path, view)
    section = source.partition("<h2>Architectures of the front</h2>")[2].partition("</section>")[0]
    blocks = re.findall(r"<details class=\"block\"( open)?><summary>#(\d+)([^<]*)</summary>", section)
    assert [int(number) for _, number, _ in blocks] == [trial.id for trial in view.winners]
    assert [int(number) for shown, number, _ in blocks if shown] == [view.knee]
    error, latency, params = (quantity(o.name, view.winners[0].values[o.name]) for o in THREE)
    assert blocks[0][2] == f" · error {error} · latency {latency} · params {params}"
    for trial in view.winners:
        assert svg(trial.architecture, inline=True) in section
    assert STYLE in source


def test_a_crowded_front_is_drawn_in_part_and_with_its_knee(tmp_path: Path) -> None:
    arch = fake_architecture(np.random.default_rng(0))
    trials = [
        Trial(i, Proposal(arch), Result({"error": float(i), "params": 300.0 - i}))
        for i in range(PICTURES + 9)
    ]
    view = ReportView("crowd", (ERROR, PARAMS), trials, range(len(trials)), len(trials) - 2)
    source, page = page_of(tmp_path, view)
    assert source.count('<svg class="arch"') == PICTURES + 1
    assert f"<summary>#{view.knee} ★ knee" in source
    assert f"{PICTURES + 1} of {PICTURES + 9} are drawn, the best by error (%)" in page.text


def test_lone_surrogates_can_be_written(tmp_path: Path) -> None:
    page_of(tmp_path, replace(fake_view(3), notes=["file \udcff.png"]))


def test_a_big_study_is_small_and_quick(tmp_path: Path) -> None:
    view = fake_view(2000, FIVE[:4])
    start = time.process_time()
    source, page = page_of(tmp_path, view)
    assert time.process_time() - start < 10
    assert len(source.encode()) < 12e6
    check(page, view)


# --- errors and imports --------------------------------------------------------------------------


def test_a_failed_write_leaves_the_old_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "report.html"
    path.write_text("old")

    def broken(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(Path, "replace", broken)
    with pytest.raises(OSError, match="disk full"):
        write_report(path, fake_view(2))
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["report.html"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"objectives": ()}, "at least one objective"),
        ({"front": (99,)}, r"unknown ids \[99\]"),
        ({"knee": 77}, r"unknown ids \[77\]"),
        ({"reference": {"error": 1.0}}, "latency_ms"),
    ],
)
def test_a_view_checks_itself(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(fake_view(4), **changes)


def test_importing_the_report_is_cheap() -> None:
    code = "import sys, nas.report; print([m for m in ('torch', 'plotly', 'networkx') if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "[]"
