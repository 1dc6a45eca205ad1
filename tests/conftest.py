"""Fixtures shared by several test modules."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.studies import finished


@pytest.fixture(scope="session")
def nas_data() -> Path:
    """The folder of real tables; where NAS_DATA is set, a missing file fails."""
    folder = os.environ.get("NAS_DATA")
    if not folder:
        pytest.skip("NAS_DATA is not set: it must name the folder of the real benchmark tables")
    return Path(folder)


@pytest.fixture(scope="session")
def finished_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a small finished study. Copy it before you change it."""
    folder = tmp_path_factory.mktemp("finished") / "study"
    finished(folder).close()
    return folder
