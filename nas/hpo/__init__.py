"""Search over the hyperparameters of one candidate."""

from nas.hpo.hyperband import Bracket, Rung, Tuned, brackets, hyperband
from nas.hpo.sampling import sample_config, within

__all__ = ["Bracket", "Rung", "Tuned", "brackets", "hyperband", "sample_config", "within"]
