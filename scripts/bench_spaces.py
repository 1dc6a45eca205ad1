"""How many architectures a second each search space samples, mutates, names and costs, on one core.

    python scripts/bench_spaces.py                    # every space that is installed
    python scripts/bench_spaces.py nasbench201 darts  # some

CPU time of this process, so a busy machine changes little; median of three repeats over architectures that
were not seen before. "walk" is sample + mutate + canonical form + key; "cost" is params, MACs and peak memory
of the written form.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from nas import registry


def per_second(work: Callable[[Any], object], items: Iterable[Any]) -> float:
    """Items a second of CPU time."""
    listed = list(items)
    start = time.process_time()
    for item in listed:
        work(item)
    return len(listed) / (time.process_time() - start)


def measured(name: str, count: int) -> tuple[float, float]:
    """(walks, costs) a second, each the median of three repeats."""
    space = registry.load("space", name)()
    walks, costs = [], []
    for repeat in range(3):
        rng = np.random.default_rng(repeat)

        def walk(_: int, rng: np.random.Generator = rng) -> str:
            return str(space.canonical(space.mutate(space.sample(rng), rng)).key)

        walks.append(per_second(walk, range(count)))
        costs.append(per_second(space.cost, [space.sample(rng) for _ in range(count)]))
    return statistics.median(walks), statistics.median(costs)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("spaces", nargs="*", help="short names; all without")
    parser.add_argument("--count", type=int, default=2000, help="architectures a repeat")
    options = parser.parse_args()
    print(f"{'space':<16}{'walk / s':>12}{'cost / s':>12}{'written forms':>18}")
    for name in options.spaces or registry.names("space"):
        walks, costs = measured(name, options.count)
        size = registry.load("space", name)().size()
        print(f"{name:<16}{walks:>12,.0f}{costs:>12,.0f}{size:>18.4g}")


if __name__ == "__main__":
    main()
