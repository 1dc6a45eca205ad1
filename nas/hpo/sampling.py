"""Random configurations of hyperparameters."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from nas.architecture import Scalar
from nas.settings import Choice, Range


def sample_config(
    domains: Mapping[str, Range | Choice], defaults: Mapping[str, Scalar], rng: np.random.Generator
) -> dict[str, Scalar]:
    """`defaults` with every name of `domains` drawn anew: ranges uniform (in log if so declared)."""
    config = dict(defaults)
    for name, domain in sorted(domains.items()):
        if isinstance(domain, Choice):
            config[name] = domain.values[int(rng.integers(len(domain.values)))]
        elif domain.log:
            drawn = math.exp(rng.uniform(math.log(domain.low), math.log(domain.high)))
            config[name] = min(max(drawn, domain.low), domain.high)  # exp(log(x)) may miss x by a rounding
        else:
            config[name] = float(rng.uniform(domain.low, domain.high))
    return config
