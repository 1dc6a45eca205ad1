# ruff: noqa: E501
"""Settings check themselves: each broken rule is named with what came."""

from __future__ import annotations

from typing import Any

import pytest

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

NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("kind", "given", "message"),
    [
        (DataSettings, {"validation": 0.0}, r"`0 < data.validation < 1` must hold, but got \(validation=0.0\)"),
        (DataSettings, {"validation": NAN}, "0 < data.validation < 1"),
        (DataSettings, {"test": 1.0}, "0 < data.test < 1"),
        (DataSettings, {"validation": 0.5, "test": 0.5}, r"data.validation \+ data.test < 1.*validation=0.5, test=0.5"),
        (DataSettings, {"augment": "flip"}, "`data.augment` must be one of 'none', 'shift', 'shift.flip', but got 'flip'"),
        (DataSettings, {"limit": 0}, "data.limit >= 1"),
        (DataSettings, {"image_size": 0}, "data.image_size >= 1"),
        (TrainingSettings, {"optimizer": "adam"}, "`training.optimizer` must be one of 'sgd', 'adamw'"),
        (TrainingSettings, {"schedule": "step"}, "`training.schedule` must be one of"),
        (TrainingSettings, {"batch_size": 1}, "training.batch_size >= 2"),
        (TrainingSettings, {"lr": 0.0}, "0 < training.lr < inf"),
        (TrainingSettings, {"lr": NAN}, "training.lr"),
        (TrainingSettings, {"lr": INF}, "training.lr"),
        (TrainingSettings, {"momentum": 1.0}, "0 <= training.momentum < 1"),
        (TrainingSettings, {"weight_decay": -1e-9}, "0 <= training.weight_decay"),
        (TrainingSettings, {"weight_decay": INF}, "training.weight_decay"),
        (TrainingSettings, {"label_smoothing": 1.0}, "0 <= training.label_smoothing < 1"),
        (TrainingSettings, {"clip": 0.0}, "training.clip > 0"),
        (Range, {"low": 2.0, "high": 1.0}, r"`low <= high` must hold, but got \(low=2.0, high=1.0\)"),
        (Range, {"low": NAN, "high": 1.0}, "low <= high"),
        (Range, {"low": 0.0, "high": INF}, "low <= high"),
        (Range, {"low": 0.0, "high": 1.0, "log": True}, "low > 0 where log = true"),
        (Choice, {"values": ()}, "at least one value"),
        (HyperbandSettings, {"max_epochs": 0}, "hyperband.max_epochs >= 1"),
        (HyperbandSettings, {"eta": 1}, "hyperband.eta >= 2"),
        (HyperbandSettings, {"table": "paper"}, "`hyperband.table` must be one of 'printed', 'formula'"),
        (HyperbandSettings, {"brackets": 0}, "hyperband.brackets >= 1"),
        (HyperbandSettings, {"space": {"clip": Range(1, 2)}}, "may tune lr, momentum, .* but got 'clip'"),
        (HyperbandSettings, {"space": {"lr": Range(-1, 2)}}, r"`hyperband.space.lr`: `0 < training.lr.*lr=-1"),
        (HyperbandSettings, {"space": {"momentum": Range(0.5, 1)}}, "`hyperband.space.momentum`: .*momentum=1"),
        (HyperbandSettings, {"space": {"lr": Choice((0.1, "big"))}}, "`hyperband.space.lr` must hold numbers, but got 'big'"),
        (HyperbandSettings, {"space": {"lr": Choice((True,))}}, "must hold numbers, but got True"),
        (HyperbandSettings, {"space": {"lr": Choice(([0.1],))}}, r"must hold numbers, but got \[0.1\]"),
        (RunSettings, {"trials": 0}, "run.trials >= 1"),
        (RunSettings, {"workers": -1}, "run.workers >= 0"),
        (RunSettings, {"threads": 0}, "run.threads >= 1"),
        (RunSettings, {"timeout_s": 0.0}, "run.timeout_s > 0"),
        (RunSettings, {"memory_gb": NAN}, "run.memory_gb > 0"),
        (Settings, {"seed": -1}, "study.seed >= 0"),
        (Settings, {"in_flight": 0}, "study.in_flight >= 1"),
        (Settings, {"identity": "graph"}, "`study.identity` must be one of 'network', 'written'"),
        (Settings, {"objectives": ()}, r"at least one \[\[objectives\]\]"),
        (Settings, {"objectives": (Component("error"), Component("error"))}, "objectives differ.*'error', 'error'"),
        (Settings, {"reference": {"error": NAN}}, "study.reference is finite.*error=nan"),
    ],
)  # fmt: skip
def test_a_wrong_setting_names_its_rule_and_what_came(
    kind: type, given: dict[str, Any], message: str
) -> None:
    with pytest.raises(SettingsError, match=message):
        kind(**given)


def test_what_may_be_left_out_may_be_none() -> None:
    assert TrainingSettings(clip=None).clip is None
    assert RunSettings(timeout_s=None, memory_gb=None).timeout_s is None
    assert DataSettings(limit=None).limit is None
    assert HyperbandSettings(brackets=None).brackets is None
    Range(0.1, 0.1, log=True)


def test_the_default_configuration_is_what_training_says() -> None:
    assert TrainingSettings(lr=0.3).hparams() == {
        "lr": 0.3,
        "momentum": 0.9,
        "weight_decay": 5e-4,
        "label_smoothing": 0.1,
    }


def test_one_factory_may_serve_two_objectives() -> None:
    """A table's columns, say: "bench:column" with different options."""
    pair = tuple(Component("bench:column", {"name_": column}) for column in ("accuracy", "latency"))
    assert Settings(objectives=pair).objectives == pair
