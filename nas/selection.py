"""Which trials are meant: the front, its knee, one by preferences, some ids, or what meets conditions."""

from __future__ import annotations

import difflib
import math
import operator
import re
from collections.abc import Callable, Mapping, Sequence

from nas import pareto
from nas.protocols import Objective
from nas.scalarisation import achievement, scaled
from nas.trial import Failure, Trial


class SelectionError(ValueError):
    """No trial is meant, or it has no result; the message says what there is."""


_CONDITION = re.compile(r"\s*([^\s<>=]+)\s*(<=|>=|==|<|>)\s*([^\s<>=]+)\s*")
_OPERATORS: Mapping[str, Callable[[float, float], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "==": operator.eq,
}


def select(
    trials: Sequence[Trial],
    front: Sequence[Trial],
    objectives: Sequence[Objective],
    *,
    knee: bool = False,
    prefer: Mapping[str, float] | None = None,
    ids: Sequence[int] | None = None,
    where: Sequence[str] = (),
) -> list[Trial]:
    """The trials to export: the front, unless told otherwise.

    Args:
        trials: all of the study.
        front: its Pareto-optimal ones.
        knee: only the knee of the front, or of what `where` leaves of it.
        prefer: only the member of the front, or of what `where` leaves of it, that `preferred` chooses.
        ids: these trials instead, in this order; None or empty for the front.
        where: conditions that members of the front must all meet: "latency_ms < 2", "error<=5".

    Raises:
        SelectionError: nothing is left, an id has no result, a condition cannot be read, a preference names
            no objective, or choices are combined that exclude each other.
    """
    if bool(ids) + knee + (prefer is not None) > 1 or (ids and where):
        raise SelectionError(
            "one of ids, knee and preferences must be given, ids without conditions, but got more: drop one"
        )
    if ids:
        return _by_id(trials, ids)
    chosen = _meeting(front, [o.name for o in objectives], where)
    if not chosen:
        raise SelectionError("the front must have a member, but no trial has a result within the limits yet")
    if knee:
        losses = [[o.loss(trial.values[o.name]) for o in objectives] for trial in chosen]
        chosen = [chosen[pareto.knee(losses)]]
    if prefer is not None:
        chosen = [chosen[preferred(chosen, objectives, prefer)]]
    return chosen


def preferences(text: str) -> dict[str, float]:
    """Importance by objective, from a text such as "error=2, latency_ms=1".

    Raises:
        SelectionError: it cannot be read.
    """
    found: dict[str, float] = {}
    for part in text.split(","):
        name, sign, number = (piece.strip() for piece in part.partition("="))
        try:
            found[name] = float(number) if name and sign else math.nan
        except ValueError:
            found[name] = math.nan
        if math.isnan(found[name]):
            raise SelectionError(f'preferences must look like "error=2,latency_ms=1", but got {text!r}')
    return found


def preferred(members: Sequence[Trial], objectives: Sequence[Objective], weights: Mapping[str, float]) -> int:
    """Index of the member that is best by an achievement function (Wierzbicki 1980).

    Losses are scaled to [0, 1] over the members; the largest weighted loss, plus a little of the sum, is
    least. So "error twice as important as latency" accepts half as much of the error's range.

    Args:
        weights: importance by objective, > 0; what is not named has 1.

    Raises:
        SelectionError: a name is no objective, or a weight is not positive.
    """
    names = [o.name for o in objectives]
    for name, weight in weights.items():
        if name not in names:
            near = difflib.get_close_matches(name, names, n=1, cutoff=0.0)[0]
            raise SelectionError(
                f"a preference must name one of {', '.join(names)}, but got {name!r}; did you mean {near!r}?"
            )
        if not 0 < weight < math.inf:
            raise SelectionError(f"a preference must be a number > 0, but got {name} = {weight}")
    losses = scaled([[o.loss(trial.values[o.name]) for o in objectives] for trial in members])
    scores = achievement(losses, [weights.get(name, 1.0) for name in names], rho=0.05)
    return int(scores.argmin())


def _by_id(trials: Sequence[Trial], ids: Sequence[int]) -> list[Trial]:
    known = {trial.id: trial for trial in trials}
    wrong = [
        f"{i} {state(known[i]) if i in known else 'does not exist'}"
        for i in ids
        if i not in known or not known[i].ok
    ]
    if wrong:
        there = f"0 to {max(known)}" if known else "none"
        raise SelectionError(f"ids must be of trials with a result ({there}), but {', '.join(wrong)}")
    return [known[i] for i in dict.fromkeys(ids)]


def _meeting(front: Sequence[Trial], names: Sequence[str], where: Sequence[str]) -> list[Trial]:
    """The members of the front that meet all conditions."""
    conditions = [_condition(text, names) for text in where]
    chosen = [t for t in front if all(holds(t.values[name], bound) for name, holds, bound in conditions)]
    if front and not chosen:
        there = []
        for name in dict.fromkeys(name for name, _, _ in conditions):
            values = [trial.values[name] for trial in front]
            there.append(f"{name} from {min(values):.6g} to {max(values):.6g}")
        raise SelectionError(
            f"{' and '.join(where)} must hold for a member of the front, but it has {', '.join(there)}"
        )
    return chosen


def _condition(text: str, names: Sequence[str]) -> tuple[str, Callable[[float, float], bool], float]:
    """(objective, comparison, bound) of a condition such as "latency_ms<2"."""
    match = _CONDITION.fullmatch(text)
    try:
        name, sign, bound = match.groups() if match else ("", "", "nan")
        number = float(bound)
    except ValueError:
        number = math.nan
    if math.isnan(number):
        raise SelectionError(
            f'a condition must look like "{names[0]} < 2" (<, <=, >, >=, ==), but got {text!r}'
        )
    if name not in names:
        near = difflib.get_close_matches(name, names, n=1, cutoff=0.0)[0]
        raise SelectionError(
            f"a condition must name one of {', '.join(names)}, but got {name!r}; did you mean {near!r}?"
        )
    return name, _OPERATORS[sign], number


def state(trial: Trial) -> str:
    if isinstance(trial.outcome, Failure):
        return f"failed ({trial.outcome.kind}: {trial.outcome.message})"
    return "has a result" if trial.ok else "has no outcome yet"
