"""Prints the table of nas/inherit/README.md: `python -m tests.morphism_table`.

It looks at random parents and children of every space and says which morphisms it saw, and whether they kept
the function.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from nas.inherit import diff
from nas.inherit.morphisms import KEEPING, MORPHISMS, morphisms
from search_spaces.plan import flattened
from tests.small_spaces import SMALL_SPACES

README = Path(__file__).parents[1] / "nas" / "inherit" / "README.md"
BEST = ("", "≈", "eval", "exact")
"""What a cell can say, the strongest last."""


def pairs(space: Any, count: int, seed: int = 0) -> Iterator[tuple[frozenset[str], str]]:
    """(morphisms, how far the function is kept) of random parents and children."""
    rng = np.random.default_rng(seed)
    for _ in range(count):
        before = space.sample(rng)
        old, new = (
            tuple(flattened(space.plan(space.canonical(arch))))
            for arch in (before, space.mutate(before, rng))
        )
        found = diff(new, old, space.input_shape[0], {}, rng)
        yield (
            morphisms(new, old, found),
            ("exact" if found.eval_mode and found.train_mode else "eval" if found.eval_mode else "≈"),
        )


def seen(space: Any, count: int) -> dict[str, str]:
    """For each morphism the strongest that was seen of it."""
    cells = dict.fromkeys(MORPHISMS, "")
    for kinds, kept in pairs(space, count):
        for kind in kinds:
            cells[kind] = max(cells[kind], kept if kind in KEEPING else "≈", key=BEST.index)
    return cells


def written() -> dict[str, Mapping[str, str]]:
    """The table of the README: space -> morphism -> cell."""
    text = README.read_text().partition("\n| | ")[2]
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in f"| | {text}".splitlines()
        if line.startswith("| ") and not re.match(r"\| -", line)
    ]
    head, *body = rows
    return {name.strip("`"): dict(zip(head[1:], cells, strict=True)) for name, *cells in body}


def main(count: int = 400) -> None:
    print(f"| | {' | '.join(MORPHISMS)} |")
    print(f"| - |{' - |' * len(MORPHISMS)}")
    for name, make in SMALL_SPACES.items():
        print(f"| {name} | {' | '.join(seen(make(), count).values())} |")


if __name__ == "__main__":
    main()
