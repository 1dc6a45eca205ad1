"""Does inheritance pay? The same search with and without it: epochs until the same hypervolume.

    python scripts/bench_inheritance.py --data digits --seeds 5 --out runs/bench_inheritance
    python scripts/bench_inheritance.py --data cifar10      # a subset, from the file in $NAS_DATA

A run is a study of its own folder; a killed run goes on where it stopped. Epochs are those of all candidates,
rungs and distillation together, in the order of the trials. Each seed's target is the hypervolume that its
search without inheritance has at its end, (error in percent, params) against (90, the space's largest).
"""

from __future__ import annotations

import argparse
import csv
import io
import os
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nas import Study, pareto
from nas.trial import Result

ARMS: dict[str, dict[str, Any]] = {
    "nothing": {"inherit": "nothing"},
    "weights": {"inherit": "weights", "distill": 0},
    "weights, distilled": {"inherit": "weights", "distill": 1},
    "weights+momentum": {"inherit": "weights+momentum", "distill": 1},
}
"""What a child starts from; the first is what the others are held against."""

SEARCHERS: dict[str, dict[str, Any]] = {
    "lemonade": {"name": "lemonade", "initial": 10},
    "nsga2": {"name": "nsga2", "population": 10},
    "regularized_evolution": {"name": "regularized_evolution", "population": 10, "sample": 5},
}
REFERENCE = {"error": 90.0, "params": 100_000.0}


@dataclass(frozen=True)
class Setup:
    """A data set and a search over it that two cores can afford."""

    data: dict[str, Any]
    space: dict[str, Any]
    training: dict[str, Any]
    max_epochs: int


SETUPS = {
    "digits": Setup({"name": "digits", "validation": 0.3, "test": 0.1}, {"head": 0}, {}, 3),
    "cifar10": Setup(
        {"name": "npz", "augment": "shift+flip", "validation": 0.3},
        {"head": 0, "stem": 8, "widths": [8, 16, 24], "strides": 3, "depth": [1, 5]},
        {},
        3,
    ),
}


def cifar10_subset(source: Path, target: Path, count: int) -> None:
    """Writes the first `count` images of the shared JPEG file, and 2,000 for the test part, as an .npz."""
    from PIL import Image

    with np.load(source, allow_pickle=False) as file:
        jpeg, offsets, labels = file["jpeg"], file["offsets"], file["labels"]
        total = count + 2000
        images = np.stack(
            [
                np.asarray(Image.open(io.BytesIO(jpeg[offsets[i] : offsets[i + 1]].tobytes())))
                for i in range(total)
            ]
        )
    x = np.ascontiguousarray(images.transpose(0, 3, 1, 2))
    target.parent.mkdir(parents=True, exist_ok=True)
    np.savez(target, x_train=x[:count], y_train=labels[:count], x_test=x[count:], y_test=labels[count:total])


def tables(
    setup: Setup, searcher: str, arm: str, seed: int, trials: int, data: dict[str, Any]
) -> dict[str, Any]:
    return {
        "study": {"seed": seed, "in_flight": 2, "reference": REFERENCE},
        "space": {"name": "chain", **setup.space},
        "searcher": SEARCHERS[searcher],
        "objectives": [{"name": "error"}, {"name": "params", "limit": REFERENCE["params"]}],
        "data": {**setup.data, **data},
        "training": {**setup.training, **ARMS[arm]},
        "hyperband": {"max_epochs": setup.max_epochs, "brackets": 1},
        "run": {"trials": trials, "workers": 0, "timeout_s": "none"},
    }


def history(study: Study) -> list[tuple[float, float]]:
    """(epochs so far, hypervolume so far) after each trial, in id order."""
    reference = np.array([REFERENCE[o.name] for o in study.objectives])
    found, epochs = [], 0.0
    rows = []
    for trial in study.trials:
        if isinstance(trial.outcome, Result):
            epochs += trial.outcome.cost["epochs"]
            rows.append([o.loss(trial.values[o.name]) for o in study.objectives])
        found.append((epochs, pareto.hypervolume(np.array(rows), reference) if rows else 0.0))
    return found


def epochs_to(found: Sequence[tuple[float, float]], target: float) -> float:
    """Epochs until the target is reached; infinite if it never is."""
    return next((epochs for epochs, volume in found if volume >= target), float("inf"))


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", choices=SETUPS, default="digits")
    parser.add_argument("--searcher", choices=SEARCHERS, default="lemonade")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--trials", type=int, default=60)
    parser.add_argument("--images", type=int, default=2000, help="training images of the CIFAR-10 subset")
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS), metavar="ARM")
    parser.add_argument("--out", type=Path, default=Path("runs/bench_inheritance"))
    chosen = parser.parse_args(argv)
    setup = SETUPS[chosen.data]
    data: dict[str, Any] = {}
    if chosen.data == "cifar10":
        source = Path(os.environ.get("NAS_DATA", "")) / "cifar10_train_jpeg.npz"
        if not source.is_file():
            parser.error(f"no images at {source}: set NAS_DATA to the folder of the shared data")
        subset = chosen.out / f"cifar10-{chosen.images}.npz"
        if not subset.exists():
            cifar10_subset(source, subset, chosen.images)
        data = {"path": str(subset.resolve())}
    rows = []
    for seed in range(chosen.seeds):
        target = 0.0
        for arm in dict.fromkeys(["nothing", *chosen.arms]):
            name = f"{chosen.data}-{chosen.searcher}-{arm.replace(', ', '-').replace('+', '-')}-{seed}"
            folder = chosen.out / name
            if (folder / "study.db").exists():
                study = Study.open(folder)
            else:
                study = Study.create(folder, tables(setup, chosen.searcher, arm, seed, chosen.trials, data))
            with study:
                print(f"seed {seed}: {arm}", file=sys.stderr)
                study.run(chosen.trials)
                found = history(study)
            if arm == "nothing":
                target, whole = found[-1][1], found[-1][0]
            needed = epochs_to(found, target)
            rows.append((chosen.data, arm, seed, found[-1][0], found[-1][1], needed, needed / whole))
    with (chosen.out / f"{chosen.data}-{chosen.searcher}.csv").open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(
            [("data", "arm", "seed", "epochs", "hypervolume", "epochs_to_target", "share"), *rows]
        )
    print(f"{chosen.data}, {chosen.searcher}, {chosen.trials} trials: epochs until the target hypervolume")
    print(f"{'start from':<22}{'in all':>10}{'to target':>12}{'share':>9}   of each seed")
    for arm in dict.fromkeys(row[1] for row in rows):
        epochs, needed, shares = (
            [float(row[column]) for row in rows if row[1] == arm] for column in (3, 5, 6)
        )
        print(
            f"{arm:<22}{statistics.fmean(epochs):>10.0f}{statistics.fmean(needed):>12.0f}"
            f"{statistics.fmean(shares):>9.2f}   {' '.join(f'{share:.2f}' for share in shares)}"
        )


if __name__ == "__main__":
    main()
