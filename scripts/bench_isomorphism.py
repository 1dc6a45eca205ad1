"""Counts the networks of NAS-Bench-101 by their keys; its authors counted 423,624 (Ying et al. 2019).

    python scripts/bench_isomorphism.py                 # all cells of up to 7 vertices: ten minutes
    python scripts/bench_isomorphism.py --vertices 6    # a smaller space: a minute

Every listing of every cell is written as an architecture and brought to its canonical form. Checked are

- that two listings have equal keys exactly if the published graph hash says that they are isomorphic,
- that the canonical form is the listing that comes first in the order of the published generator,
- the number of networks, and the fewest and most parameters, where they are published.

It ends with status 1 where a check fails, and with status 2 where --seconds of CPU time do not suffice.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

from nas.architecture import Architecture
from search_spaces.dag import edges, pruned
from search_spaces.nasbench101 import OPS, NASBench101Space

NETWORKS = {7: 423_624}
"""Published counts, by most vertices (at most 9 edges)."""

PARAMS = {7: (227_274, 49_979_274)}
"""Fewest and most trainable parameters in the published table."""


def listings(space: NASBench101Space) -> Iterator[Architecture]:
    """All written forms, in the order of the published generator: vertices, edges as a number, ops."""
    for vertices in range(2, space.vertices + 1):
        last_to_first = [range(1, 1 << vertex) for vertex in range(vertices - 1, 0, -1)]
        for reversed_columns in product(*last_to_first):
            columns = (0, *reversed_columns[::-1])
            if edges(columns) <= space.edges and len(pruned(columns)) == vertices:
                for ops in product(OPS, repeat=vertices - 2):
                    yield space.from_columns(columns, ops)


@dataclass
class Counted:
    """What was seen so far.

    Attributes:
        written: number of listings.
        hashes: the published hash of each network, by its key.
        fewest, most: parameters.
        wrong: listings that break a rule.
    """

    written: int
    hashes: dict[str, str]
    fewest: int
    most: int
    wrong: int


def count(space: NASBench101Space, seconds: float) -> Counted:
    """Goes through all listings; raises `TimeoutError` after so many seconds of CPU time."""
    seen = Counted(0, {}, sys.maxsize, 0, 0)
    start = time.process_time()
    for arch in listings(space):
        network = space.canonical(arch)
        known = seen.hashes.get(network.key)
        seen.wrong += (network == arch) != (known is None)
        found = space.module_hash(arch)
        if known is None:
            seen.hashes[network.key] = found
            params = space.cost(arch).params
            seen.fewest, seen.most = min(seen.fewest, params), max(seen.most, params)
        else:
            seen.wrong += found != known
        seen.written += 1
        if seen.written % 1000 == 0 and time.process_time() - start > seconds:
            raise TimeoutError(f"stopped after {seen.written} of {space.size()} listings")
    return seen


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--vertices", type=int, default=7, help="most vertices of a cell (default 7)")
    parser.add_argument("--seconds", type=float, default=1500, help="most CPU time (default 1500)")
    arguments = parser.parse_args()
    space = NASBench101Space(vertices=arguments.vertices)
    start = time.process_time()
    try:
        seen = count(space, arguments.seconds)
    except TimeoutError as error:
        print(error)
        return 2
    networks = len(seen.hashes)
    print(f"{seen.written} listings, {networks} networks, {len(set(seen.hashes.values()))} published hashes")
    print(f"{seen.fewest} to {seen.most} parameters; {time.process_time() - start:.0f} s of CPU time")
    right = (
        not seen.wrong
        and seen.written == space.size()
        and networks == len(set(seen.hashes.values()))
        and networks == NETWORKS.get(space.vertices, networks)
        and (seen.fewest, seen.most) == PARAMS.get(space.vertices, (seen.fewest, seen.most))
    )
    print("every check holds" if right else f"a check fails; {seen.wrong} listings break a rule")
    return 0 if right else 1


if __name__ == "__main__":
    sys.exit(main())
