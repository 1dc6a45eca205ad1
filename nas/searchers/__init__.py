"""Searchers: settings in, proposals out. None of them imports torch or knows a space."""

from nas.searchers.nsga2 import NSGA2
from nas.searchers.random_search import RandomSearch
from nas.searchers.regularized_evolution import RegularizedEvolution

__all__ = ["NSGA2", "RandomSearch", "RegularizedEvolution"]
