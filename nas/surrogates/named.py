"""Models by name, as study files write them: `model = "forest"`."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from nas.surrogates.best import BestByCrossValidation
from nas.surrogates.boosting import BoostedTrees
from nas.surrogates.carts import CARTs
from nas.surrogates.forest import RandomForest
from nas.surrogates.mlp import MLPEnsemble
from nas.surrogates.model import Model
from nas.surrogates.process import GaussianProcess
from nas.surrogates.ranking import PairwiseRanking
from nas.surrogates.rbf import RBF

MODELS: Mapping[str, Callable[[], Model]] = {
    "best": BestByCrossValidation,
    "boosted": BoostedTrees,
    "carts": CARTs,
    "forest": RandomForest,
    "gp": GaussianProcess,
    "mlp": MLPEnsemble,
    "ranking": PairwiseRanking,
    "rbf": RBF,
}


def model_of(setting: str | Model) -> Model:
    """The model of a name, or one as it is.

    Raises:
        ValueError: there is no such model.
    """
    if not isinstance(setting, str):
        if not hasattr(setting, "fit"):
            raise ValueError(f"model must be a name or have `fit`, but got {setting!r}")
        return setting
    if setting not in MODELS:
        raise ValueError(f"model must be one of {', '.join(MODELS)}, but got {setting!r}")
    return MODELS[setting]()
