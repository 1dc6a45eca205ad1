"""The guide for spaces of one's own: its examples run, and its worked example passes the contract."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
import time
import tomllib
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from spaces_contract import SpaceContract

from nas import registry
from nas.study import Study
from search_spaces.nasbench201 import NASBench201Space
from search_spaces.nasbench_macro import NASBenchMacroSpace
from search_spaces.template import EXAMPLE, TemplateSpace
from search_spaces.template_ops import LEFT_OUT
from tests.studies import tables

GUIDE = (Path(__file__).parents[1] / "search_spaces" / "README.md").read_text(encoding="utf-8")
TEMPLATES = re.findall(r"```toml\n(.*?)```", GUIDE, flags=re.DOTALL)
EXAMPLES = re.findall(r"```python\n(.*?)```", GUIDE, flags=re.DOTALL)


def imported(name: str, code: str) -> ModuleType:
    """The code as a module that others can import."""
    module = ModuleType(name)
    sys.modules[name] = module
    exec(compile(code, f"guide: {name}", "exec"), vars(module))
    return module


parts: Any = imported("guide_parts", EXAMPLES[0])
"""The worked example."""


def test_the_guide_is_short() -> None:
    assert len(TEMPLATES) == 1 and len(EXAMPLES) == 2
    assert len(GUIDE.splitlines()) <= 140
    assert max(map(len, GUIDE.splitlines())) <= 125
    assert len(TEMPLATES[0].splitlines()) <= 15
    assert len(EXAMPLES[0].splitlines()) <= 62
    assert len([line for line in EXAMPLES[0].splitlines() if line.strip()]) <= 55


# --- the worked example ------------------------------------------------------------------------------


vars(parts)["SpaceContract"] = SpaceContract
exec(compile(EXAMPLES[1], "guide: contract", "exec"), vars(parts))
TestGhostCells = parts.TestGhostCells
"""Held to the contract in the guide's own words."""


class TestGhostCellsOnOddImages(SpaceContract):
    def make(self) -> Any:
        return parts.GhostCells((1, 5, 7), classes=3, width=6, cells=1)


def test_the_example_counts_what_it_says() -> None:
    space = parts.GhostCells()
    assert space.size() == 4**4 * 2 * 3 * 4  # four ops a step; the steps 2, 3, 4 choose what they read
    values = {"cell": ("ghost", "skip", "conv", "max_pool", 1, 0, 2)}
    assert [(n.op, n.inputs) for n in space.architecture(values).graph("cell")] == [
        ("input", ()), ("ghost", (0,)), ("skip", (1,)), ("conv", (0,)), ("max_pool", (2,)),
        ("add", (0, 1, 2, 3, 4)),
    ]  # fmt: skip


def test_a_ghost_module_has_the_parameters_of_the_paper() -> None:
    """n / 2 filters of 1x1 over c channels and n / 2 of 3x3 over one channel each, with a batch norm each
    (Han et al. 2020, section 3.2 with s = 2, d = 3)."""
    c = n = 12
    (fragment,) = [parts.OPS["ghost"].fragments((), ((c, 9, 9),))]
    assert fragment.shape == (n, 9, 9)
    assert fragment.params == c * n // 2 + n // 2 * 9 + 2 * n
    assert fragment.macs == 81 * (c * n // 2 + n // 2 * 9)


def test_the_example_is_searched_by_its_name(tmp_path: Path) -> None:
    assert 'name = "my_parts:GhostCells"' in GUIDE
    own = tables() | {"space": {"name": "guide_parts:GhostCells", "width": 4, "cells": 1}}
    with Study.create(tmp_path / "study", own) as study:
        study.run(2)
        assert all(trial.ok for trial in study.trials)


def test_the_example_loads_no_torch(tmp_path: Path) -> None:
    (tmp_path / "my_parts.py").write_text(EXAMPLES[0], encoding="utf-8")
    code = (
        "import sys, numpy as np, my_parts; s = my_parts.GhostCells(); r = np.random.default_rng(0); "
        "s.cost(s.mutate(s.sample(r), r)); assert 'torch' not in sys.modules"
    )
    path = f"{tmp_path}:{Path(__file__).parents[1]}"
    subprocess.run([sys.executable, "-c", code], check=True, env={"PYTHONPATH": path, "OMP_NUM_THREADS": "1"})


# --- the template ------------------------------------------------------------------------------------


def test_the_template_of_the_guide_is_the_default() -> None:
    space = tomllib.loads(TEMPLATES[0])["space"]
    assert space.pop("name") == TemplateSpace.name
    assert space == tomllib.loads(EXAMPLE)
    assert {"$width", "stage.repeat", "stage.1.block.op"} <= {g.name for g in TemplateSpace().genes["net"]}


def test_a_study_with_the_template_of_the_guide(tmp_path: Path) -> None:
    own = tables() | {"space": tomllib.loads(TEMPLATES[0])["space"]}
    own["space"]["name"] = "search_spaces.template:TemplateSpace"
    with Study.create(tmp_path / "study", own) as study:
        study.run(2)
        assert all(trial.ok for trial in study.trials)


def test_every_op_of_a_template_is_listed_with_its_parameters() -> None:
    (listed,) = re.findall(r"- Ops: (.*?)\n- ", GUIDE, flags=re.DOTALL)
    ops = set(re.findall(r"`(\w+)`", listed))
    assert ops == set(TemplateSpace.operations) - {LEFT_OUT}
    for name in ops:
        operation = TemplateSpace.operations[name]
        for parameter in (*operation.params, *operation.options):
            assert parameter in listed


# --- what it says of the spaces ----------------------------------------------------------------------


def test_the_sizes_in_the_table() -> None:
    rows = dict(re.findall(r"^\| `(\w+)` \|.*\| ([^|]*) \|$", GUIDE, flags=re.MULTILINE))
    assert rows["nasbench_macro"].startswith(f"{NASBenchMacroSpace().size():,} ")
    assert rows["nasbench201"].startswith(f"{NASBench201Space().size():,} ")
    assert rows["template"].startswith(f"{TemplateSpace().size():,} ")
    assert rows["chain"] == f"{registry.load('space', 'chain')().size():.1e}".replace("+", "")


def test_the_guide_names_what_there_is() -> None:
    """Every dotted name of this package and of nas can be imported."""
    for name in set(re.findall(r"`((?:search_spaces|nas)\.[\w.]+)`", GUIDE)):
        module, _, attribute = name.rpartition(".")
        assert hasattr(importlib.import_module(module), attribute), name


@pytest.mark.parametrize("make", ["template", "example"])
def test_they_are_fast(make: str) -> None:
    """Sample, mutate, canonical key: some 3,000 a second on a quiet core; far fewer is a fault."""
    space = TemplateSpace() if make == "template" else parts.GhostCells()
    rng = np.random.default_rng(0)
    start = time.process_time()
    for _ in range(1000):
        assert space.canonical(space.mutate(space.sample(rng), rng)).key
    assert 1000 / (time.process_time() - start) > 500
