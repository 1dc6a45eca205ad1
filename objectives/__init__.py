"""What a search can want: built-in objectives, one factory each.

An objective is a value, `nas.protocols.Objective`; to add one, write a function that returns it and name
it in the study file as "my_module:kilo_params". Its options there are the function's keywords.

Example:
    >>> from nas.protocols import Objective
    >>> def kilo_params(limit: float | None = None) -> Objective:
    ...     def exact(arch, space):
    ...         return space.cost(arch).params / 1000
    ...     return Objective("kilo_params", limit=limit, exact=exact)
    >>> kilo_params(limit=200).limit_text()
    'kilo_params <= 200'
"""

from __future__ import annotations


def check_limit(limit: float | None) -> None:
    """Raises `ValueError` unless the limit is a number > 0, or None."""
    if limit is not None and not limit > 0:
        raise ValueError(f"`limit > 0` must hold, but got (limit={limit!r})")
