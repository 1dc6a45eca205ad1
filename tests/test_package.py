"""What importing costs, and what the package says of itself."""

from __future__ import annotations

import resource
import subprocess
import sys
import tomllib
from importlib.metadata import entry_points, version
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize(
    "statement",
    [
        "import nas",
        "from nas import Architecture, Graph, Node, Objective, Failure, Study",
        "import nas.study, nas.store, nas.executors, nas.evaluator, nas.export, nas.report, nas.cli",
        "import nas.searchers, nas.hpo, nas.data, nas.config, nas.display",
        "import search_spaces.chain, search_spaces.nasbench_macro",
        "import objectives.error, objectives.cost, objectives.latency",
        "from nas.registry import load, names; [load(k, n) for k in ('space', 'searcher', 'objective') "
        "for n in names(k)]",
    ],
)
def test_no_torch(statement: str) -> None:
    code = f"{statement}\nimport sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_study_in_memory_loads_no_torch() -> None:
    code = """
import sys
from nas import Objective, Study
from nas.searchers import NSGA2
from search_spaces.nasbench_macro import NASBenchMacroSpace
study = Study.in_memory(NASBenchMacroSpace(), [Objective("error")], NSGA2(population=4))
for _ in range(12):
    study.tell(study.ask(), {"error": 1.0})
sys.exit("torch" in sys.modules)
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_help_is_quick() -> None:
    """Half a second of CPU is promised; the best of three is read, with room for a busy machine."""
    spent = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-m", "nas.cli", "--help"], check=True, capture_output=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        spent.append(after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime)
    assert min(spent) < 1.0


def test_every_declared_name_loads() -> None:
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert version("paretonas") == declared["version"]
    for group, points in declared["entry-points"].items():
        installed = {point.name: point for point in entry_points(group=group)}
        assert set(points) <= set(installed)
        for name in points:
            assert callable(installed[name].load())
