"""Searchers: settings in, proposals out. None of them imports torch or knows a space."""

from nas.searchers.bananas import BANANAS
from nas.searchers.bayesian import Auto, BayesianOptimization
from nas.searchers.ga import GA
from nas.searchers.genetic_cnn import GeneticCNN
from nas.searchers.large_scale_evolution import LargeScaleEvolution
from nas.searchers.lemonade import LEMONADE
from nas.searchers.local_search import LocalSearch
from nas.searchers.mo_bananas import MOBANANAS
from nas.searchers.moead import MOEAD
from nas.searchers.msunas import MSuNAS
from nas.searchers.nao import NAO
from nas.searchers.nsga2 import NSGA2
from nas.searchers.nsga3 import NSGA3
from nas.searchers.pso import PSO
from nas.searchers.published import nas_bowl, nemo, nsganet
from nas.searchers.random_search import RandomSearch
from nas.searchers.regularized_evolution import RegularizedEvolution
from nas.searchers.simulated_annealing import SimulatedAnnealing
from nas.searchers.smsemoa import SMSEMOA
from nas.searchers.surrogate_local_search import SurrogateLocalSearch
from nas.searchers.surrogate_nsga2 import SurrogateNSGA2

__all__ = [
    "BANANAS",
    "GA",
    "LEMONADE",
    "MOBANANAS",
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
    "MSuNAS",
    "RandomSearch",
    "RegularizedEvolution",
    "SimulatedAnnealing",
    "SurrogateLocalSearch",
    "SurrogateNSGA2",
    "nas_bowl",
    "nemo",
    "nsganet",
]
