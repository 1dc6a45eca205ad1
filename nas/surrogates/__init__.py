"""Models of what costs training: fitted to told trials, asked about candidates. None knows a space."""

from nas.surrogates.model import Fitted, Model, Normal, Unfit

__all__ = ["Fitted", "Model", "Normal", "Unfit"]
