"""Study files: TOML in, checked `Settings` out, and the commented template that `nas init` writes."""

from __future__ import annotations

import difflib
import json
import re
import tomllib
from collections.abc import Mapping
from dataclasses import MISSING, asdict, fields
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

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
from nas.typed import typed

Domain = TypeVar("Domain", Range, Choice)

STUDY_KEYS = ("seed", "in_flight", "identity", "reference")
SECTIONS: Mapping[str, type] = {
    "data": DataSettings,
    "training": TrainingSettings,
    "hyperband": HyperbandSettings,
    "run": RunSettings,
}

TEMPLATE = """# A study of paretonas: nas search study.toml --out runs/first
# Run the same command again to go on after a stop. Everything but [run] is fixed once it has begun.

[study]
seed = 0
in_flight = 2           # outcomes that may be open when the next candidate is proposed; at least the workers
identity = "network"    # what makes two candidates the same: "network", or "written" as encoded

[space]                 # a short name or "module:Class"; further keys are its arguments
name = "chain"          # also: darts, nasnet, mnasnet, mobilenetv3, template … see search_spaces/README.md
depth = [2, 6]          # smallest and largest number of blocks
widths = [8, 16, 24, 32]

[searcher]              # a short name or "module:Class"; further keys are its arguments
name = "auto"           # also: nsga2, lemonade, local_search, regularized_evolution, bayesian, random …

# One table an objective. What is exact (params, macs …) is never trained beyond its limit; what is measured
# counts only within it.
[[objectives]]
name = "error"          # percent of the validation images

[[objectives]]
name = "latency_ms"     # ONNX Runtime, 1 thread, batch 1, on this machine
# limit = 2.0

[[objectives]]
name = "params"         # also: "macs", "flops", "peak_activation_bytes"
# limit = 100_000

[data]
name = "digits"         # also: "mnist", "fashion_mnist", "cifar10", "cifar100", "folder", "npz"
# path = "data"         # where to download to, the image folder, or the .npz file
# image_size = 32       # images of a folder become RGB of this side
# limit = 5000          # use only so many training images
validation = 0.15       # share of the training images that chooses
test = 0.15             # share that is looked at once, after the search (where the source has no test part)
augment = "none"        # "none", "shift", "shift+flip"

[training]
optimizer = "sgd"       # or "adamw"
schedule = "one-cycle"  # or "cosine"
batch_size = 64
lr = 0.1                # defaults of what [hyperband.space] tunes; for adamw about 0.002
momentum = 0.9
weight_decay = 5e-4
label_smoothing = 0.1
clip = 5.0              # largest gradient norm, or "none"
inherit = "weights"     # what children start from: their parent's "weights", "weights+momentum" or "nothing"
distill = 1             # epochs to learn the parent's logits first, where inheriting changed the function
device = "cpu"          # "cuda", "cuda:1", "auto"

[hyperband]             # the nested search over each candidate's hyperparameters
max_epochs = 9          # of a fully trained configuration
eta = 3
table = "printed"       # 9, 3, 3 configurations for max_epochs = 9; "formula": 9, 5, 3
# brackets = 1          # only the first brackets: 1 is successive halving

[hyperband.space]       # of lr, momentum, weight_decay, label_smoothing: a range or a list of values
lr = { low = 0.02, high = 0.5, log = true }
weight_decay = { low = 1e-5, high = 1e-2, log = true }

[run]                   # may be changed between runs
trials = 30
# patience = 50         # ends earlier, when so many trials in a row did not enlarge the hypervolume
workers = 2             # processes; 0 evaluates in the driver's own
threads = 1             # of one worker's training
timeout_s = 1800        # of one candidate, or "none"; not with workers = 0
# memory_gb = 4         # of one candidate, beyond what a worker starts with; not with workers = 0
"""


def read_settings(path: Path) -> Settings:
    """The settings of a study file.

    Raises:
        SettingsError: the file cannot be read, is not TOML, or a setting is unknown or wrong.
    """
    data = read_toml(path, remedy=": `nas init` writes one")
    try:
        return settings_from_dict(data)
    except SettingsError as error:
        raise SettingsError(f"{path}: {error}") from error


def read_toml(path: Path, remedy: str = "") -> dict[str, Any]:
    """The tables of a TOML file.

    Raises:
        SettingsError: it cannot be read (`remedy` says what to do then), or is not TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"settings file {path} must be readable, but {error}{remedy}") from error
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"settings file {path} must be TOML, but: {error}") from error


def settings_from_dict(data: Mapping[str, Any]) -> Settings:
    """Settings from the tables of a study file; `settings_to_dict` gives them back.

    Raises:
        SettingsError: a key is unknown (the nearest right one is named) or a value is wrong.
    """
    _known("", data, ["study", "space", "searcher", "objectives", *SECTIONS])
    given: dict[str, Any] = {}
    study = _table("study", data.get("study", {}))
    _known("study", study, STUDY_KEYS)
    hints = get_type_hints(Settings)
    for key, value in study.items():
        given[key] = typed(f"study.{key}", value, hints[key])
    for key in ("space", "searcher"):
        if key in data:
            given[key] = _component(key, data[key])
    if "objectives" in data:
        if not isinstance(data["objectives"], list):
            raise SettingsError(f"`objectives` must be [[objectives]] tables, but got {data['objectives']!r}")
        given["objectives"] = tuple(_component("objectives", entry) for entry in data["objectives"])
    for name, kind in SECTIONS.items():
        if name in data:
            given[name] = _section(name, _table(name, data[name]), kind)
    return Settings(**given)


def settings_to_dict(settings: Settings) -> dict[str, Any]:
    """Plain dicts, lists and scalars, laid out as in a study file (None for "none")."""
    data: dict[str, Any] = {
        "study": {key: getattr(settings, key) for key in STUDY_KEYS},
        "space": {"name": settings.space.name, **settings.space.options},
        "searcher": {"name": settings.searcher.name, **settings.searcher.options},
        "objectives": [{"name": o.name, **o.options} for o in settings.objectives],
    }
    data |= {name: asdict(getattr(settings, name)) for name in SECTIONS}
    data["hyperband"]["space"] = {
        name: list(domain.values) if isinstance(domain, Choice) else asdict(domain)
        for name, domain in settings.hyperband.space.items()
    }
    return data


def settings_to_toml(settings: Settings) -> str:
    """A study file that reads back as these settings."""
    lines: list[str] = []
    for name, table in settings_to_dict(settings).items():
        for entry in table if isinstance(table, list) else [table]:
            lines.append(f"[[{name}]]" if isinstance(table, list) else f"[{name}]")
            lines += [
                f"{_key(key)} = {_toml(value)}"
                for key, value in entry.items()
                if value is not None or key in _NONE
            ]
            lines.append("")
    return "\n".join(lines)


_NONE = ("clip", "timeout_s")
"""Settings whose default is a number and that may be "none"."""


def _key(key: str) -> str:
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else _toml(key)


def _toml(value: Any) -> str:
    if value is None:
        return '"none"'
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")  # TOML escapes as JSON does
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{_key(key)} = {_toml(entry)}" for key, entry in value.items()) + " }"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_toml(entry) for entry in value) + "]"
    return repr(value)


def differences(one: Settings, other: Settings) -> list[str]:
    """What two studies differ in, [run] aside: "searcher.population: 20 in the study, 30 in the file"."""
    a, b = _flat(settings_to_dict(one)), _flat(settings_to_dict(other))
    return [
        f"{key}: {a.get(key, 'nothing')!r} in the study, {b.get(key, 'nothing')!r} now"
        for key in sorted(a.keys() | b.keys())
        if a.get(key) != b.get(key) and not key.startswith("run.")
    ]


def _flat(data: Any, prefix: str = "") -> dict[str, Any]:
    if isinstance(data, Mapping):
        items = data.items()
    elif isinstance(data, list) and any(isinstance(entry, Mapping) for entry in data):
        items = {str(index): entry for index, entry in enumerate(data)}.items()
    else:
        return {prefix: list(data) if isinstance(data, tuple) else data}
    found: dict[str, Any] = {}
    for key, value in items:
        found |= _flat(value, f"{prefix}.{key}" if prefix else key)
    return found


# --- typed reading ---------------------------------------------------------------------------------


def _known(table: str, data: Mapping[str, Any], keys: Any) -> None:
    for key in data:
        if key not in keys:
            near = difflib.get_close_matches(key, list(keys), n=1, cutoff=0.5)
            hint = f"; did you mean `{near[0]}`?" if near else ""
            where = f" in [{table}]" if table else ""
            raise SettingsError(f"unknown key `{key}`{where}, it must be one of {', '.join(keys)}{hint}")


def _table(name: str, value: Any) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise SettingsError(f"`{name}` must be a table [{name}], but got {value!r}")
    return value


def _component(key: str, value: Any) -> Component:
    if isinstance(value, str):
        return Component(value)
    if not isinstance(value, Mapping) or not isinstance(value.get("name"), str):
        raise SettingsError(f"`{key}` must be a name or a table with a `name`, but got {value!r}")
    return Component(value["name"], {k: v for k, v in value.items() if k != "name"})


def _section(name: str, data: Mapping[str, Any], kind: type) -> Any:
    hints = get_type_hints(kind)
    known = [field.name for field in fields(kind)]
    _known(name, data, known)
    given: dict[str, Any] = {}
    for key, value in data.items():
        if (name, key) == ("hyperband", "space"):
            given[key] = {n: _domain(n, v) for n, v in _table("hyperband.space", value).items()}
        else:
            given[key] = typed(f"{name}.{key}", value, hints[key])
    return kind(**given)


def _domain(name: str, value: Any) -> Range | Choice:
    if isinstance(value, list):
        return _made(name, Choice, values=tuple(value))
    table = _table(f"hyperband.space.{name}", value)
    known = [field.name for field in fields(Range)]
    _known(f"hyperband.space.{name}", table, known)
    missing = [f.name for f in fields(Range) if f.default is MISSING and f.name not in table]
    if missing:
        raise SettingsError(
            f"`hyperband.space.{name}` must have {' and '.join(missing)}, but got {dict(table)}"
        )
    hints = get_type_hints(Range)
    given = {k: typed(f"hyperband.space.{name}.{k}", v, hints[k]) for k, v in table.items()}
    return _made(name, Range, **given)


def _made(name: str, kind: type[Domain], **given: Any) -> Domain:
    try:
        return kind(**given)
    except SettingsError as error:
        raise SettingsError(f"`hyperband.space.{name}`: {error}") from None
