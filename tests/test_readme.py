"""The README's examples run, and its commands exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from nas.cli import app
from nas.study import Study
from tests.studies import tables

README = (Path(__file__).parents[1] / "README.md").read_text()
EXAMPLES = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)


def test_it_is_short_and_has_examples() -> None:
    assert len(README.splitlines()) < 150 and len(EXAMPLES) == 3


@pytest.mark.parametrize("number", range(len(EXAMPLES)))
def test_examples_run(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    names = {"__name__": "__main__"}
    exec(compile(EXAMPLES[number], f"README example {number}", "exec"), names)
    assert capsys.readouterr().out.strip() or "Chase" in names


def test_parts_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "readme_parts.py").write_text(EXAMPLES[2])
    monkeypatch.syspath_prepend(tmp_path)
    own = tables() | {
        "searcher": "readme_parts:Chase",
        "objectives": [{"name": "error"}, {"name": "readme_parts:sparsity"}],
    }
    with Study.create(tmp_path / "study", own) as study:
        study.run(4)
        assert all(trial.ok for trial in study.trials)
        assert study.trials[3].proposal.parents == (1,)  # in_flight is 2


def test_commands_exist() -> None:
    for command in set(re.findall(r"bin/nas (\w+)", README)):
        assert CliRunner().invoke(app, [command, "--help"]).exit_code == 0, command
