"""paretonas: multi-objective neural architecture search.

A study takes a search space, objectives and a searcher; it trains each candidate with a nested Hyperband,
measures it, and ends with Pareto-optimal models that are exported and checked. Importing this loads no torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nas.architecture import Architecture, Graph, InvalidArchitecture, Node
from nas.protocols import Exhausted, Measurement, Objective, Wait
from nas.trial import Failure, Proposal, Result, Trial

if TYPE_CHECKING:
    from nas.study import Study

__all__ = [
    "Architecture",
    "Exhausted",
    "Failure",
    "Graph",
    "InvalidArchitecture",
    "Measurement",
    "Node",
    "Objective",
    "Proposal",
    "Result",
    "Study",
    "Trial",
    "Wait",
]


def __getattr__(name: str) -> Any:
    """`Study` is loaded when first used: it brings the store, the executors and moocore."""
    if name == "Study":
        from nas.study import Study

        return Study
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
