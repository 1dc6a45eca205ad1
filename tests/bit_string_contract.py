"""The contract of a space of several graphs, whose ids differ within a graph only."""

from __future__ import annotations

from typing import Any

import pytest
import spaces_contract
from spaces_contract import SpaceContract

from nas.architecture import Architecture


class StagesContract(SpaceContract):
    def test_a_mutation_is_valid_new_and_keeps_ids(  # type: ignore[override]
        self, space: Any, samples: list[Architecture], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Nodes of two stages may have the same id: their weights are named by stage and id."""
        monkeypatch.setattr(spaces_contract, "ids", stages_and_ids)
        super().test_a_mutation_is_valid_new_and_keeps_ids(space, samples)


def stages_and_ids(arch: Architecture) -> set[tuple[str, Any]]:
    return {(name, (name, node.id)) for name, graph in arch.graphs for node in graph}
