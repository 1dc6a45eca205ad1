"""The contract of spaces of two cells."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from spaces_contract import SpaceContract

from nas.architecture import Architecture


class StackedContract(SpaceContract):
    @pytest.fixture
    def samples(self, space: Any) -> list[Architecture]:
        """Few: the networks have some 500 modules each."""
        rng = np.random.default_rng(0)
        return [space.sample(rng) for _ in range(8)]

    def test_inputs_are_told_apart(self, space: Any, samples: list[Architecture]) -> None:
        """A cell that reads its inputs the other way round is another network, and has another key."""
        different = 0
        for arch in samples:
            data = arch.to_dict()
            for graph in data["graphs"]:
                ids = [node["id"] for node in graph["nodes"][:2]]
                other = dict(zip(ids, reversed(ids), strict=True))
                for node in graph["nodes"]:
                    node["inputs"] = [other.get(source, source) for source in node["inputs"]]
            swapped = Architecture.from_dict(data)
            different += swapped.key != arch.key
        assert different > 0.9 * len(samples)  # some are their own mirror image
