"""Models of what costs training: fitted to told trials, asked about candidates. None knows a space."""

from nas.surrogates.best import BestByCrossValidation
from nas.surrogates.boosting import BoostedTrees
from nas.surrogates.carts import CARTs
from nas.surrogates.forest import RandomForest
from nas.surrogates.mlp import MLPEnsemble
from nas.surrogates.model import Fitted, Model, Normal, Unfit
from nas.surrogates.named import MODELS, model_of
from nas.surrogates.process import GaussianProcess
from nas.surrogates.quality import Quality, quality
from nas.surrogates.ranking import PairwiseRanking
from nas.surrogates.rbf import RBF

__all__ = [
    "MODELS",
    "RBF",
    "BestByCrossValidation",
    "BoostedTrees",
    "CARTs",
    "Fitted",
    "GaussianProcess",
    "MLPEnsemble",
    "Model",
    "Normal",
    "PairwiseRanking",
    "Quality",
    "RandomForest",
    "Unfit",
    "model_of",
    "quality",
]
