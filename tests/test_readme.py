"""The README's examples run, and its commands exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from nas.cli import app

README = (Path(__file__).parents[1] / "README.md").read_text()
EXAMPLES = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)


def test_it_is_short_and_has_examples() -> None:
    assert len(README.splitlines()) < 150 and len(EXAMPLES) == 2


@pytest.mark.parametrize("number", range(len(EXAMPLES)))
def test_examples_run(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    exec(compile(EXAMPLES[number], f"README example {number}", "exec"), {"__name__": "__main__"})
    assert capsys.readouterr().out.strip()


def test_commands_exist() -> None:
    for command in set(re.findall(r"bin/nas (\w+)", README)):
        assert CliRunner().invoke(app, [command, "--help"]).exit_code == 0, command
