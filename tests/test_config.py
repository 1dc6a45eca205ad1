# ruff: noqa: E501
"""Study files: the template reads back, settings survive TOML, wrong keys name the nearest right one."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas.config import (
    TEMPLATE,
    differences,
    read_settings,
    settings_from_dict,
    settings_to_dict,
    settings_to_toml,
)
from nas.settings import (
    Choice,
    Component,
    DataSettings,
    HyperbandSettings,
    Range,
    RunSettings,
    Settings,
    SettingsError,
    TrainingSettings,
)

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
FULL = Settings(
    space=Component("my_module:Space", {"depth": [2, 4], "deep": {"a b": 1, "on": True}}),
    searcher=Component("random"),
    objectives=(Component("error"), Component("params", {"limit": 1e5})),
    seed=2**40,
    in_flight=5,
    identity="written",
    reference={"error": 100.0, "my objective": -1.5},
    data=DataSettings("npz", 'odd "path"\\\t\n\x00\x7f', 0.2, 0.1, "shift+flip", 500, 64),
    training=TrainingSettings("adamw", "cosine", 2, 1e-05, 0.0, 0.0, 0.0, None, "cuda:1"),
    hyperband=HyperbandSettings(
        27, 4, "formula", 2, {"lr": Choice((0.1, 1)), "momentum": Range(0.5, 0.9, False)}
    ),
    run=RunSettings(7, 0, 3, None, 2.5),
)


def test_the_template_reads_back(tmp_path: Path) -> None:
    path = tmp_path / "study.toml"
    path.write_text(TEMPLATE, encoding="utf-8")
    settings = read_settings(path)
    assert settings.in_flight == 2
    assert settings.run.threads == 1
    assert [o.name for o in settings.objectives] == ["error", "latency_ms", "params"]
    assert settings.data == DataSettings()
    assert settings.training == TrainingSettings()
    assert settings.hyperband == HyperbandSettings()
    assert settings.run == RunSettings(workers=2)


def test_what_the_template_leaves_out_is_valid_too() -> None:
    """Every commented setting may be switched on."""
    lines = []
    for line in TEMPLATE.splitlines():
        bare = line.removeprefix("# ")
        lines.append(bare if line.startswith("# ") and " = " in bare else line)
    settings = settings_from_dict(tomllib.loads("\n".join(lines)))
    assert settings.data.path == "data"
    assert settings.run.memory_gb == 4
    assert settings.hyperband.brackets == 1
    assert settings.objectives[2].options == {"limit": 100_000}


@pytest.mark.parametrize("settings", [Settings(), FULL], ids=["defaults", "everything"])
def test_settings_survive_toml_dict_and_json(settings: Settings, tmp_path: Path) -> None:
    path = tmp_path / "study.toml"
    path.write_text(settings_to_toml(settings), encoding="utf-8")
    assert read_settings(path) == settings
    assert settings_from_dict(settings_to_dict(settings)) == settings
    assert settings_from_dict(json.loads(json.dumps(settings_to_dict(settings)))) == settings


@given(
    st.dictionaries(TEXT, st.booleans() | st.integers(-(2**60), 2**60) | st.floats(allow_nan=False) | TEXT),
    TEXT,
)
def test_options_of_any_name_and_value_survive_toml(options: dict[str, Any], path: str) -> None:
    options.pop("name", None)
    settings = Settings(space=Component("my:Space", options), data=DataSettings(path=f"x{path}"))
    again = settings_from_dict(tomllib.loads(settings_to_toml(settings)))
    assert again == settings
    assert repr(dict(again.space.options)) == repr(options)


def test_an_empty_file_is_the_default_study() -> None:
    assert settings_from_dict({}) == Settings()
    assert settings_from_dict({"space": "chain", "objectives": ["error", "params"]}) == Settings()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[traning]\nlr = 1", "unknown key `traning`, it must be one of study, .*did you mean `training`?"),
        ("[training]\nbatchsize = 1", r"unknown key `batchsize` in \[training\].*did you mean `batch_size`?"),
        ("[study]\nsed = 1", r"unknown key `sed` in \[study\].*did you mean `seed`?"),
        ("[data]\nqqqqqqqq = 1", r"unknown key `qqqqqqqq` in \[data\], it must be one of name, path"),
        ("[hyperband.space]\nlr = {low = 1, hihg = 2}", r"unknown key `hihg` in \[hyperband.space.lr\].*`high`?"),
        ("[hyperband.space]\nlr = {low = 1}", "`hyperband.space.lr` must have high, but got {'low': 1}"),
        ("[hyperband.space]\nlr = {low = 2, high = 1}", "`hyperband.space.lr`: `low <= high` must hold"),
        ("[hyperband.space]\nlr = []", "`hyperband.space.lr`: `at least one value` must hold"),
        ("[hyperband.space]\nlr = 1", r"`hyperband.space.lr` must be a table \[hyperband.space.lr\], but got 1"),
        ("[hyperband.space]\nlr = {low = '1', high = 2}", "`hyperband.space.lr.low` must be a number, but got '1'"),
        ("[hyperband.space]\nlr = [[0.1]]", "`hyperband.space.lr` must hold numbers"),
        ("[hyperband.space]\nlr = [2026-01-01]", "`hyperband.space.lr` must hold numbers"),
        ("[hyperband]\nspace = 3", r"`hyperband.space` must be a table \[hyperband.space\], but got 3"),
        ("[training]\nlr = '0.1'", "`training.lr` must be a number, but got '0.1'"),
        ("[training]\nlr = nan", "training.lr"),
        ("[training]\nlr = inf", "training.lr"),
        ("[training]\nlr = true", "`training.lr` must be a number, but got True"),
        ("[training]\nlr = 'none'", "`training.lr` must be a number, but got 'none'"),
        ("[training]\nclip = 'off'", "`training.clip` must be a number or \"none\", but got 'off'"),
        ("[training]\nbatch_size = 32.0", "`training.batch_size` must be a whole number, but got 32.0"),
        ("[training]\noptimizer = 'adam'", "`training.optimizer` must be one of 'sgd', 'adamw', but got 'adam'"),
        ("[training]\noptimizer = ['sgd']", "`training.optimizer` must be one of"),
        ("[study]\nseed = true", "`study.seed` must be a whole number, but got True"),
        ("[study]\nidentity = 'graph'", "`study.identity` must be one of 'network', 'written'"),
        ("[study]\nreference = {error = 'big'}", "`study.reference.error` must be a number, but got 'big'"),
        ("[study]\nreference = 3", '`study.reference` must be a table or "none", but got 3'),
        ("study = 3", r"`study` must be a table \[study\], but got 3"),
        ("data = 'digits'", r"`data` must be a table \[data\], but got 'digits'"),
        ("[space]\ndepth = 3", "`space` must be a name or a table with a `name`"),
        ("searcher = 3", "`searcher` must be a name or a table with a `name`, but got 3"),
        ("objectives = 'error'", r"`objectives` must be \[\[objectives\]\] tables, but got 'error'"),
        ("[[objectives]]\nlimit = 3", "`objectives` must be a name or a table with a `name`"),
        ("objectives = []", r"at least one \[\[objectives\]\]"),
        ("[run]\ntrials = 0", "run.trials >= 1"),
    ],
)  # fmt: skip
def test_a_wrong_setting_names_key_and_rule(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "study.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(SettingsError, match=message) as caught:
        read_settings(path)
    assert str(path) in str(caught.value)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    path = tmp_path / "study.toml"
    for content, message in (
        (None, "must be readable, but .*`nas init` writes one"),
        (b"\xff\xfe", "must be readable"),
        (b"[study\nseed = 1", "must be TOML, but: .*line 1"),
        (b"seed = 1\nseed = 2", "must be TOML"),
    ):
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(SettingsError, match=message) as caught:
            read_settings(path)
        assert str(path) in str(caught.value)
    with pytest.raises(SettingsError, match="must be readable"):
        read_settings(tmp_path)


def test_differences_are_named_and_run_is_free() -> None:
    assert differences(FULL, FULL) == []
    assert differences(Settings(), Settings(run=RunSettings(trials=99, workers=4))) == []
    other = Settings(
        seed=3,
        searcher=Component("nsga2", {"population": 12}),
        objectives=(Component("error"), Component("macs")),
        training=TrainingSettings(clip=None),
    )
    assert differences(Settings(), other) == [
        "objectives.1.name: 'params' in the study, 'macs' now",
        "searcher.name: 'auto' in the study, 'nsga2' now",
        "searcher.population: 'nothing' in the study, 12 now",
        "study.seed: 0 in the study, 3 now",
        "training.clip: 5.0 in the study, None now",
    ]
    lists = [Settings(space=Component("chain", {"depth": depth})) for depth in ([2, 4], (2, 4))]
    assert differences(*lists) == []
