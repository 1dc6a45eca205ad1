"""Searchers: settings in, proposals out. None of them imports torch or knows a space."""

from nas.searchers.bayesian import Auto, BayesianOptimization
from nas.searchers.ga import GA
from nas.searchers.genetic_cnn import GeneticCNN
from nas.searchers.large_scale_evolution import LargeScaleEvolution
from nas.searchers.lemonade import LEMONADE
from nas.searchers.local_search import LocalSearch
from nas.searchers.moead import MOEAD
from nas.searchers.nao import NAO
from nas.searchers.nsga2 import NSGA2
from nas.searchers.nsga3 import NSGA3
from nas.searchers.pso import PSO
from nas.searchers.published import nas_bowl, nemo, nsganet
from nas.searchers.random_search import RandomSearch
from nas.searchers.regularized_evolution import RegularizedEvolution
from nas.searchers.simulated_annealing import SimulatedAnnealing
from nas.searchers.smsemoa import SMSEMOA

__all__ = [
    "GA",
    "LEMONADE",
    "MOEAD",
    "NAO",
    "NSGA2",
    "NSGA3",
    "PSO",
    "SMSEMOA",
    "Auto",
    "BayesianOptimization",
    "GeneticCNN",
    "LargeScaleEvolution",
    "LocalSearch",
    "RandomSearch",
    "RegularizedEvolution",
    "SimulatedAnnealing",
    "nas_bowl",
    "nemo",
    "nsganet",
]
