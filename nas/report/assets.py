"""The page's frame, which `string.Template` fills, and its style and script, which stay as they are."""

from __future__ import annotations

FRAME = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="$policy">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta name="generator" content="paretonas">
<title>$title</title>
<style>$style</style>
</head>
<body>
<header>
<p class="kind">Architecture search</p>
<h1>$title</h1>
<dl class="numbers">$numbers</dl>
</header>
<main>
$sections
</main>
<noscript><p class="hint">The figures need JavaScript; every number is in the tables.</p></noscript>
<div id="tip" role="status" hidden></div>
<script id="data" type="application/json">$data</script>
<script>$plotly</script>
<script>$script</script>
</body>
</html>
"""

STYLE = """
:root {
  --page: #f7f6f3; --card: #ffffff; --ink: #1d2327; --soft: #5a646b; --faint: #97a1a8; --line: #e6e4df;
  --front: #0b7285; --knee: #d9480f; --fail: #b02a4c; --wash: rgba(11, 114, 133, .10);
  --sans: system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif;
  --mono: ui-monospace, "SF Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #14181b; --card: #1c2125; --ink: #e8eaeb; --soft: #a3adb3; --faint: #6d7980; --line: #2c3338;
    --front: #4cc3d9; --knee: #ffa45c; --fail: #f0809b; --wash: rgba(76, 195, 217, .12);
  }
}
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body {
  margin: 0 auto; padding: clamp(1rem, 3vw, 2.5rem) clamp(.75rem, 3vw, 2.5rem) 4rem; max-width: 88rem;
  background: var(--page); color: var(--ink); font: 15px/1.5 var(--sans);
}
header { margin: 0 .25rem 1.5rem; }
.kind { margin: 0; color: var(--soft); font-size: .8rem; letter-spacing: .08em; text-transform: uppercase; }
h1 {
  margin: 0 0 1.1rem; font-size: clamp(1.5rem, 4vw, 2.1rem); font-weight: 650; line-height: 1.2;
  overflow-wrap: anywhere;
}
h2 { margin: 0 0 .2rem; font-size: 1.1rem; font-weight: 650; }
.numbers { display: flex; flex-wrap: wrap; gap: 1rem clamp(1.4rem, 3.5vw, 3.2rem); margin: 0; }
.numbers div { display: flex; flex-direction: column-reverse; }
.numbers dt { color: var(--soft); font-size: .82rem; }
.numbers dd {
  margin: 0; font-size: 1.55rem; font-weight: 600; line-height: 1.25; font-variant-numeric: tabular-nums;
}
section {
  margin: 0 0 1.1rem; padding: clamp(.9rem, 2vw, 1.4rem); background: var(--card);
  border: 1px solid var(--line); border-radius: 12px;
}
.hint { margin: 0 0 .8rem; color: var(--soft); font-size: .88rem; max-width: 62rem; overflow-wrap: anywhere; }
.legend {
  display: flex; flex-wrap: wrap; gap: .2rem 1.2rem; margin: 0 0 .8rem; padding: 0; list-style: none;
  color: var(--soft); font-size: .88rem;
}
.legend li { display: flex; align-items: center; gap: .4rem; }
.legend svg { width: 18px; height: 18px; flex: none; }
.figures {
  --least: 21rem;
  display: grid; gap: 1rem; grid-template-columns: repeat(auto-fit, minmax(min(100%, var(--least)), 1fr));
}
.figures:has(> :nth-child(4):last-child) { --least: 30rem; }
.figure { height: 21rem; min-width: 0; }
.figures:has(> :only-child) .figure { height: 25rem; }
.figures + .hint { margin: 1.4rem 0 .2rem; }
.pair {
  display: grid; gap: 0 1.1rem; grid-template-columns: repeat(auto-fit, minmax(min(100%, 30rem), 1fr));
}
.scroll {
  overflow: auto; max-height: 34rem; margin: .6rem 0 0; border: 1px solid var(--line); border-radius: 8px;
}
table { border-collapse: collapse; width: 100%; font-size: .88rem; font-variant-numeric: tabular-nums; }
th, td {
  padding: .38rem .75rem; text-align: left; vertical-align: top; white-space: nowrap;
  border-bottom: 1px solid var(--line);
}
tr:last-child > * { border-bottom: 0; }
th { position: sticky; left: 0; background: var(--card); font-weight: 600; }
thead th { top: 0; z-index: 1; color: var(--soft); font-weight: 500; box-shadow: 0 1px var(--line); }
thead th:not(:first-child) { left: auto; }
thead th:first-child { z-index: 2; }
tbody th { cursor: help; }
td.n, th.n { text-align: right; }
td.wrap { white-space: normal; overflow-wrap: anywhere; min-width: 16rem; }
td.tight { padding-left: 0; color: var(--soft); }
td small { display: block; color: var(--soft); }
tbody tr:hover { background: var(--wash); }
tr.knee th { color: var(--knee); }
details > summary { cursor: pointer; }
details.block { margin: .6rem 0 0; }
details.block > summary { font-weight: 500; }
.picture { overflow: auto; margin: .6rem 0 .2rem; }
.picture svg { display: block; }
pre { margin: .4rem 0 0; font: 12px/1.5 var(--mono); overflow: auto; white-space: pre; }
section > pre { max-height: 30rem; padding: .8rem 1rem; border: 1px solid var(--line); border-radius: 8px; }
.facts {
  display: grid; grid-template-columns: max-content 1fr; gap: .25rem 1.2rem; margin: .4rem 0 0;
  font-size: .92rem;
}
.facts dt { color: var(--soft); }
.facts dd { margin: 0; overflow-wrap: anywhere; }
ul.notes { margin: .4rem 0 0; padding-left: 1.1rem; overflow-wrap: anywhere; }
a { color: var(--front); }
#tip {
  position: fixed; z-index: 9; pointer-events: none; overflow: hidden; padding: .7rem .9rem;
  max-width: min(27rem, calc(100vw - 16px)); max-height: calc(100vh - 16px);
  background: var(--card); border: 1px solid var(--line); border-radius: 10px;
  box-shadow: 0 8px 28px rgba(0, 0, 0, .22); font-size: .84rem; overflow-wrap: anywhere;
}
#tip b { display: block; font-size: .95rem; }
#tip dl {
  display: grid; grid-template-columns: max-content 1fr; gap: 0 .9rem; margin: .3rem 0 0;
  font-variant-numeric: tabular-nums;
}
#tip dt { color: var(--soft); }
#tip dd { margin: 0; }
#tip pre {
  margin-top: .5rem; padding-top: .5rem; border-top: 1px solid var(--line); font-size: 11px;
  white-space: pre-wrap; overflow: hidden;
}
@media print { section { break-inside: avoid; } .scroll { max-height: none; } }
"""

SCRIPT = """
"use strict";
const { figures, trials } = JSON.parse(document.getElementById("data").textContent);
const tip = document.getElementById("tip");
const touch = matchMedia("(pointer: coarse)").matches;
const places = {};   // figure -> trial -> its points there

// Colours are written as names of CSS variables.
function painted(value, css) {
  if (typeof value === "string") {
    return /^--[a-z]+$/.test(value) && css.getPropertyValue(value).trim() || value;
  }
  if (Array.isArray(value)) {
    return typeof value[0] === "number" ? value : value.map(item => painted(item, css));
  }
  if (value === null || typeof value !== "object") return value;
  return Object.fromEntries(Object.entries(value).map(([name, item]) => [name, painted(item, css)]));
}

function draw() {
  const css = getComputedStyle(document.documentElement);
  const config = { responsive: true, displayModeBar: false, doubleClick: "reset" };
  for (const [id, { data, layout }] of Object.entries(figures)) {
    const style = painted(layout, css);
    style.font.family = css.getPropertyValue("--sans");
    style.dragmode = touch ? false : "zoom";
    Plotly.react(id, painted(data, css), style, config);
  }
}

function index({ data }) {
  const found = new Map();
  for (const { x, y, customdata } of data) (customdata || []).forEach((trial, i) => {
    if (trial === null) return;
    if (!found.has(trial)) found.set(trial, { x: [], y: [] });
    found.get(trial).x.push(x[i]);
    found.get(trial).y.push(y[i]);
  });
  return found;
}

// Everything from the study enters the page as text, never as markup.
function element(name, text, ...children) {
  const made = document.createElement(name);
  made.textContent = text;
  made.append(...children);
  return made;
}

function show(trial, event) {
  const about = trials[trial];
  if (!about) return;
  const rows = about.rows.flatMap(([name, value]) => [element("dt", name), element("dd", value)]);
  const parts = [element("b", about.title), element("dl", "", ...rows), element("pre", about.architecture)];
  tip.replaceChildren(...parts);
  tip.hidden = false;
  const { clientX = 0, clientY = 0 } = event?.touches?.[0] || event?.changedTouches?.[0] || event || {};
  const { offsetWidth: width, offsetHeight: height } = tip;
  const left = clientX + 18 + width < innerWidth ? clientX + 18 : Math.max(8, clientX - 18 - width);
  tip.style.left = Math.max(8, Math.min(left, innerWidth - width - 8)) + "px";
  tip.style.top = Math.max(8, Math.min(clientY + 18, innerHeight - height - 8)) + "px";
  mark(trial);
}

function hide() {
  tip.hidden = true;
  mark(null);
}

let marked = null, waiting = 0;
function mark(trial) {
  if (trial === marked || Object.keys(trials).length > 500) return;
  marked = trial;
  cancelAnimationFrame(waiting);
  waiting = requestAnimationFrame(() => {
    for (const [id, found] of Object.entries(places)) {
      const { x, y } = found.get(trial) || { x: [], y: [] };
      Plotly.restyle(id, { x: [x], y: [y] }, [figures[id].data.length - 1]);
    }
  });
}

draw();
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
for (const [id, figure] of Object.entries(figures)) {
  places[id] = index(figure);
  const box = document.getElementById(id);
  const point = ({ points, event }) => points[0].customdata != null && show(points[0].customdata, event);
  box.on("plotly_hover", point);
  box.on("plotly_click", point);
  box.on("plotly_unhover", hide);
}
for (const row of document.querySelectorAll("tr[data-trial]")) {
  const head = row.firstElementChild, about = event => show(Number(row.dataset.trial), event);
  head.addEventListener("pointerenter", about);
  head.addEventListener("click", about);
  head.addEventListener("pointerleave", hide);
}
addEventListener("scroll", hide, { passive: true });
addEventListener("keydown", event => event.key === "Escape" && hide());
"""
