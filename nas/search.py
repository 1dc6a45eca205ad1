"""The search itself: a searcher folded over the trials, in an order that does not depend on timing.

Ask number n sees the outcomes of exactly the trials with id <= n - in_flight, told in id order, and the
proposals of the others. So the same outcomes give the same proposals, whoever evaluates them and when.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nas import pareto
from nas.architecture import Architecture
from nas.protocols import Context, Exhausted, Identity, Objective, Searcher, SearchSpace, Wait
from nas.seeding import Purpose, stream
from nas.trial import Failure, Outcome, Proposal, Result, Trial

ATTEMPTS = 100
"""Our bound: how often a searcher that proposes what was proposed before is asked again for one trial."""

REFERENCE_TRIALS = 10
"""The reference point comes from this many successful feasible trials."""


class Search:
    """Trials in memory, and the searcher's state at the right point of them.

    Args:
        space, objectives, searcher: what is searched, for what, and how.
        seed: of all streams.
        in_flight: how many outcomes may be open when the next proposal is made.
        identity: what makes two candidates the same.

    Raises:
        ValueError: `in_flight` < 1, no objectives, or two of one name.
    """

    def __init__(
        self,
        space: SearchSpace,
        objectives: Sequence[Objective],
        searcher: Searcher[Any],
        *,
        seed: int,
        in_flight: int,
        identity: Identity,
    ) -> None:
        names = [objective.name for objective in objectives]
        if not names or len(set(names)) < len(names):
            raise ValueError(f"a study must have objectives with different names, but got {names}")
        if in_flight < 1:
            raise ValueError(f"`in_flight >= 1` must hold, but got {in_flight=}")
        if identity not in ("network", "written"):
            raise ValueError(f"identity must be 'network' or 'written', but got {identity!r}")
        self.objectives = tuple(objectives)
        self.trials: list[Trial] = []
        self._searcher = searcher
        self._seed = seed
        self._in_flight = in_flight
        self._seen: set[str] = set()
        self._told = 0  # trials below this id were told to the searcher

        quick = getattr(type(space), "network_key", None)

        @lru_cache(maxsize=16384)
        def identify(arch: Architecture) -> str:
            if identity == "written":
                return arch.key
            return str(quick(space, arch)) if quick else space.canonical(arch).key

        @lru_cache(maxsize=16384)
        def exact(arch: Architecture) -> Mapping[str, float]:
            return {o.name: float(o.exact(arch, space)) for o in self.objectives if o.exact is not None}

        self.context = Context(space, self.objectives, self._seen.__contains__, identify, exact)
        self._state = searcher.init(self.context)

    # --- ask and tell ------------------------------------------------------------------------------

    def open_before_next(self) -> tuple[int, ...]:
        """Ids of the trials whose outcome the next ask has to see and that have none yet."""
        needed = self.trials[self._told : self.seen_by_next()]
        return tuple(trial.id for trial in needed if trial.outcome is None)

    def seen_by_next(self) -> int:
        """How many trials, from the first on, the next ask sees the outcomes of."""
        return max(len(self.trials) - self._in_flight + 1, 0)

    def ask(self) -> Proposal | Wait | Exhausted:
        """The next proposal. It is not recorded yet: `propose` does that."""
        if waiting := self.open_before_next():
            return Wait(waiting)
        self._tell_until(self.seen_by_next())
        rng = stream(self._seed, Purpose.ASK, len(self.trials))
        proposal: Proposal | Exhausted = Exhausted("the searcher proposed nothing")
        for _ in range(ATTEMPTS):
            proposal = self._searcher.ask(self._state, rng)
            if isinstance(proposal, Exhausted):
                return proposal
            if not self.context.seen(self.context.identify(proposal.architecture)):
                break
        else:
            return Exhausted(f"the searcher proposed {ATTEMPTS} times in a row what was proposed before")
        self.context.space.check(proposal.architecture)
        return proposal

    def propose(self, proposal: Proposal) -> Trial:
        """Records a proposal as the next trial, open."""
        trial = Trial(len(self.trials), proposal)
        self.trials.append(trial)
        self._seen.add(self.context.identify(proposal.architecture))
        self._state = self._searcher.proposed(self._state, trial)
        return trial

    def infeasible(self, proposal: Proposal) -> Failure | None:
        """The failure of a proposal that breaks a limit on an exact objective, or that has no such value."""
        values = self.context.exact(proposal.architecture)
        if bad := _not_finite(values):
            return bad
        broken = [o for o in self.objectives if o.name in values and o.violation(values[o.name]) > 0]
        if not broken:
            return None
        rules = "; ".join(f"{o.limit_text()} must hold, but it has {values[o.name]:.10g}" for o in broken)
        return Failure("infeasible", rules, values)

    def completed(self, trial: Trial, outcome: Outcome | Mapping[str, float]) -> Outcome:
        """`outcome` with the exact values filled in; values that are not finite make it a failure.

        Raises:
            ValueError: a value is missing, or there is no such objective.
        """
        exact = self.context.exact(trial.architecture)
        if isinstance(outcome, Failure):
            return replace(outcome, values={k: v for k, v in exact.items() if math.isfinite(v)})
        result = outcome if isinstance(outcome, Result) else Result(dict(outcome))
        names = [o.name for o in self.objectives]
        values = {**result.values, **exact}
        if set(values) != set(names):
            missing, unknown = sorted(set(names) - set(values)), sorted(set(values) - set(names))
            raise ValueError(
                f"trial {trial.id} must be told a value for each of {names}, but {missing=}, {unknown=}"
            )
        try:
            values = {name: float(values[name]) for name in names}
        except (TypeError, ValueError) as error:
            raise ValueError(f"trial {trial.id} must be told numbers, but got {values}") from error
        return _not_finite(values, exact) or replace(result, values=values)

    def open_trial(self, trial_id: int) -> Trial:
        """A trial that has no outcome yet.

        Raises:
            ValueError: there is no such trial, or it has an outcome.
        """
        if not 0 <= trial_id < len(self.trials):
            raise ValueError(f"trial id must be one of 0 … {len(self.trials) - 1}, but got {trial_id}")
        trial = self.trials[trial_id]
        if trial.outcome is not None:
            raise ValueError(f"trial {trial_id} was told before; a trial has one outcome")
        return trial

    def finish(self, trial_id: int, outcome: Outcome) -> Trial:
        """Records the outcome of an open trial; raises as `open_trial` does."""
        trial = self.open_trial(trial_id)
        self.trials[trial_id] = Trial(trial.id, trial.proposal, outcome)
        return self.trials[trial_id]

    def restore(self, trial: Trial) -> None:
        """Folds in a recorded trial, as after a crash; nothing is asked, nothing is fitted."""
        self._tell_until(trial.id - self._in_flight + 1)
        self.propose(trial.proposal)
        if trial.outcome is not None:
            self.finish(trial.id, trial.outcome)

    def searcher_says(self) -> Mapping[str, str]:
        """What the searcher has to say of its state, such as how good its model is; most say nothing."""
        describe = getattr(self._searcher, "describe", None)
        return describe(self._state) if describe is not None and self._told else {}

    def _tell_until(self, end: int) -> None:
        """Tells the outcomes of the trials with id < end that were not told yet, in order."""
        for trial in self.trials[self._told : max(end, 0)]:
            if trial.outcome is None:
                raise ValueError(
                    f"trial {trial.id} has no outcome, but a later trial was recorded as if it had"
                )
            rng = stream(self._seed, Purpose.TOLD, trial.id)
            self._state = self._searcher.told(self._state, trial, rng)
            self._told += 1

    # --- what was found ----------------------------------------------------------------------------

    def successes(self) -> list[Trial]:
        """Successful trials that meet all limits, in id order."""
        return [t for t in self.trials if t.ok and not self.context.violation(t.values) > 0]

    def losses(self, trials: Sequence[Trial]) -> NDArray[np.float64]:
        """`float64[n, m]`, minimised."""
        rows = [self.context.losses(trial) for trial in trials]
        return np.array(rows).reshape(len(rows), len(self.objectives))

    def counted_losses(self, trial: Trial) -> NDArray[np.float64]:
        """`float64[m]`, minimised; all NaN for a trial that failed or is beyond a limit."""
        counts = trial.ok and not self.context.violation(trial.values) > 0
        return self.context.losses(trial) if counts else np.full(len(self.objectives), np.nan)

    def front(self) -> list[Trial]:
        """The non-dominated successful feasible trials, in id order."""
        found = self.successes()
        return [found[i] for i in pareto.front(self.losses(found))] if found else []

    def reference(self) -> NDArray[np.float64] | None:
        """`float64[m]` of losses: worst + .1 x range of the first successes in id order; None before.

        It stays: a trial still open below the tenth success would change it, so it is waited for.
        """
        first: list[Trial] = []
        for trial in self.trials:
            if trial.outcome is None:
                return None
            if trial.ok and not self.context.violation(trial.values) > 0:
                first.append(trial)
            if len(first) == REFERENCE_TRIALS:
                return pareto.reference_point(self.losses(first))
        return None


def _not_finite(values: Mapping[str, float], exact: Mapping[str, float] | None = None) -> Failure | None:
    """The failure of values that are not finite, None if all are; `exact` ones stay on it."""
    bad = [f"{name} = {value}" for name, value in values.items() if not math.isfinite(value)]
    known = {name: value for name, value in (exact or values).items() if math.isfinite(value)}
    return Failure("nan", f"values must be finite, but got {', '.join(bad)}", known) if bad else None
