"""Stratified, seeded choices of images, as indices."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from nas.data.errors import DataError


def subset(y: NDArray[np.int64], count: int | None, rng: np.random.Generator) -> NDArray[np.int64]:
    """At most `count` indices into `y` (None: all), each class by its share to within one image; sorted.

    Image j of the n of its class, in random order, gets the place (j + 1/2) / n; the first `count`
    places over all classes are taken.
    """
    if count is None or count >= len(y):
        return np.arange(len(y))
    place = np.empty(len(y))
    for label in np.unique(y):
        members = np.flatnonzero(y == label)
        place[members] = (rng.permutation(len(members)) + 0.5) / len(members)
    return np.sort(np.lexsort((rng.random(len(y)), place))[:count])  # ties are broken by lot


def split(
    y: NDArray[np.int64], classes: Sequence[str], shares: Sequence[float], rng: np.random.Generator
) -> list[NDArray[np.int64]]:
    """Indices into `y` of len(shares) + 1 parts: what remains first, then one part a share; each sorted.

    Every part gets its share of every class, rounded, and at least one image.

    Args:
        y: `int64[n]`, indices into `classes`.
        classes: the names, for messages.
        shares: of `y`, each > 0, together < 1.
        rng: draws which images.

    Raises:
        DataError: a class has too few images.
    """
    parts: list[list[NDArray[np.int64]]] = [[] for _ in range(len(shares) + 1)]
    for label, name in enumerate(classes):
        members = rng.permutation(np.flatnonzero(y == label))
        sizes = [max(1, round(share * len(members))) for share in shares]
        if sum(sizes) >= len(members):
            raise DataError(
                f"every class must have at least {sum(sizes) + 1} images to be split by "
                f"{' and '.join(f'{share:g}' for share in shares)}, but got {len(members)} of class "
                f"{name!r}; add images, drop the class, raise `data.limit` or lower the shares"
            )
        *held_out, rest = np.split(members, np.cumsum(sizes))
        for part, chosen in zip(parts, [rest, *held_out], strict=True):
            part.append(chosen)
    return [np.sort(np.concatenate(part)) for part in parts]
