"""Stratified, seeded choices of images, as indices."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from nas.data.errors import DataError


def subset(y: NDArray[np.int64], count: int | None, rng: np.random.Generator) -> NDArray[np.int64]:
    """At most `count` indices into `y` (None: all), each class by its share to within one image; sorted.

    What is left of `count` when shares are rounded down goes to the largest remainders, ties by lot.
    """
    if count is None or count >= len(y):
        return np.arange(len(y))
    labels, sizes = np.unique(y, return_counts=True)
    taken, rest = np.divmod(sizes * count, len(y))
    taken[np.lexsort((rng.random(len(labels)), -rest))[: count - taken.sum()]] += 1
    chosen = [
        rng.choice(np.flatnonzero(y == label), size, replace=False)
        for label, size in zip(labels, taken.tolist(), strict=True)
    ]
    return np.sort(np.concatenate(chosen))


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
