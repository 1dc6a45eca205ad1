"""What a study in a folder begins with: components that fit together, a clean folder, a data set."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nas import registry
from nas.data import DataError, DataInfo, prepare, read_info
from nas.evaluator import make_objectives, make_space
from nas.protocols import Searcher
from nas.search import Search
from nas.settings import Settings, SettingsError
from nas.store import Store, StoreError

OWN_FILES = {"study.lock", "study.db", "study.db-wal", "study.db-shm", "data.partial"}
"""What a creation that was killed may leave behind."""


def make_search(settings: Settings, info: DataInfo) -> Search:
    """The search that the settings describe, on inputs of the data set, with no trials yet.

    Raises:
        UnknownName, SettingsError: the components do not fit together, or not the data.
    """
    if settings.data.augment != "none" and len(info.input_shape) != 3:
        raise SettingsError(
            f"`data.augment` must be 'none' for inputs that are no images, but got "
            f"{settings.data.augment!r} for inputs of shape {info.input_shape}"
        )
    space = make_space(settings, info.input_shape, len(info.classes))
    objectives, searcher = make_objectives(settings), _searcher(settings)
    try:
        return Search(
            space,
            objectives,
            searcher,
            seed=settings.seed,
            in_flight=settings.in_flight,
            identity=settings.identity,
        )
    except ValueError as error:  # the searcher does not fit the space or the objectives
        raise SettingsError(f"searcher {settings.searcher.name!r}: {error}") from error


def check_names(settings: Settings) -> None:
    """Raises `UnknownName` or `SettingsError` for components that cannot be made or do not fit together."""
    for given in ("input_shape", "classes"):
        if given in settings.space.options:
            raise SettingsError(f"`space.{given}` must not be given: the data set says it; leave it out")
    registry.check_options("space", settings.space.name, settings.space.options)
    _searcher(settings)
    names = [objective.name for objective in make_objectives(settings)]
    if len(set(names)) < len(names):
        raise SettingsError(f"`objectives` must have different names, but got {', '.join(names)}")
    if settings.reference is not None and set(settings.reference) != set(names):
        raise SettingsError(
            f"`study.reference` must name each objective ({', '.join(names)}), but got "
            f"{', '.join(settings.reference) or 'nothing'}"
        )


def check_folder(folder: Path) -> None:
    """Raises `StoreError` if the folder holds a study, or more than what a killed creation left."""
    if not folder.is_dir():
        return
    if Store.exists(folder):
        raise StoreError(f"{folder} holds a study already: open it, or choose another folder")
    foreign = {path.name for path in folder.iterdir()} - OWN_FILES
    if "data" in foreign:
        try:
            read_info(folder / "data")
        except DataError:
            pass  # somebody else's folder of that name
        else:
            foreign.remove("data")
    if foreign:
        raise StoreError(
            f"{folder} must be empty or hold a study, but it holds {', '.join(sorted(foreign)[:5])}: "
            "choose another folder"
        )


def study_data(settings: Settings, folder: Path, sha256: str) -> DataInfo:
    """The study's data set; one that was removed is prepared anew and must come out the same.

    Args:
        folder: where it lives.
        sha256: digest of the data set that the study began with.

    Raises:
        StoreError: the source gives other data than when the study began.
    """
    info = read_info(folder) if folder.exists() else prepare(settings.data, settings.seed, folder)
    if info.sha256 != sha256:
        raise StoreError(
            f"{folder} must hold the data set that the study began with, but its digest differs: put back a "
            "copy, or start a new study in another folder"
        )
    return info


def _searcher(settings: Settings) -> Searcher[Any]:
    searcher: Searcher[Any] = registry.make("searcher", settings.searcher.name, settings.searcher.options)
    return searcher
