"""Studies in memory and in folders: exact values, failures, fronts, continuation, verification."""

from __future__ import annotations

import json
import math
import shutil
import sqlite3
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import nas.study as module
from nas import Exhausted, Failure, Objective, Result, Study, Trial, Wait, pareto
from nas.data import DataError, prepare, read_info
from nas.evaluator import Outage
from nas.protocols import Context
from nas.registry import UnknownName
from nas.searchers import NSGA2, RandomSearch, RegularizedEvolution
from nas.settings import DataSettings, Settings, SettingsError
from nas.store import Store, StoreError, lock_folder
from nas.trial import Proposal
from search_spaces.nasbench_macro import NASBenchMacroSpace
from tests.studies import EPOCHS, facts, tables

MACS = Objective("macs", exact=lambda arch, space: space.cost(arch).macs)
BOTH = (Objective("error"), MACS)


def in_memory(searcher: Any = None, objectives: Any = BOTH, **kwargs: Any) -> Study:
    return Study.in_memory(NASBenchMacroSpace(), objectives, searcher or RandomSearch(), **kwargs)


def error_of(trial: Trial) -> float:
    """A made-up error: fewer MACs, more errors."""
    return 1e9 / (1 + trial.values.get("macs", NASBenchMacroSpace().cost(trial.architecture).macs))


def driven(study: Study, count: int) -> Study:
    for _ in range(count):
        trial = study.ask()
        assert isinstance(trial, Trial)
        study.tell(trial, {"error": error_of(trial)})
    return study


# --- in memory -------------------------------------------------------------------------------------


def test_exact_values_are_filled_in() -> None:
    study = in_memory()
    trial = study.ask()
    told = study.tell(trial, {"error": 5.0})
    assert told.values == {"error": 5.0, "macs": study.space.cost(trial.architecture).macs}
    failed = study.tell(study.ask(), Failure("oom", "too large"))
    assert failed.outcome.kind == "oom" and set(failed.values) == {"macs"}
    assert [trial.id for trial in study.trials] == [0, 1] and study.front() == [told]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_value_that_is_not_finite_is_a_failure(value: float) -> None:
    study = in_memory()
    outcome = study.tell(study.ask(), {"error": value}).outcome
    assert isinstance(outcome, Failure) and outcome.kind == "nan" and set(outcome.values) == {"macs"}
    assert study.front() == []


def test_what_cannot_be_told() -> None:
    study = in_memory()
    trial = study.ask()
    for values, says in (({}, r"missing=\['error'\]"), ({"error": 1, "acc": 2}, r"unknown=\['acc'\]")):
        with pytest.raises(ValueError, match=says):
            study.tell(trial, values)
    with pytest.raises(ValueError, match="must be told numbers"):
        study.tell(trial, {"error": None})
    study.tell(np.int64(0), {"error": np.float32(1)})
    with pytest.raises(ValueError, match="trial 0 was told before"):
        study.tell(trial, {"error": 1})
    with pytest.raises(ValueError, match=r"trial id must be one of 0 … 0, but got 7"):
        study.tell(7, {"error": 1})


def test_ask_waits_for_the_outcomes_it_must_see() -> None:
    study = in_memory(in_flight=2)
    first, second = study.ask(), study.ask()
    assert study.ask() == Wait((0,))
    study.tell(second, {"error": 1})
    assert study.ask() == Wait((0,))
    study.tell(first, {"error": 1})
    assert isinstance(study.ask(), Trial)


def test_the_front_is_non_dominated_and_within_limits() -> None:
    study = driven(in_memory(objectives=(Objective("error", limit=40.0), MACS), seed=4), 60)
    feasible = [t for t in study.trials if t.values["error"] <= 40]
    assert 0 < len(feasible) < 60
    losses = [[t.values["error"], t.values["macs"]] for t in feasible]
    assert study.front() == [feasible[i] for i in pareto.front(losses)]


def test_maximised_objectives() -> None:
    study = in_memory(objectives=(Objective("accuracy", maximize=True), MACS))
    for _ in range(15):
        trial = study.ask()
        study.tell(trial, {"accuracy": float(trial.id)})
    assert study.trials[14] in study.front()
    reference = study.reference()
    assert reference["accuracy"] == pytest.approx(0 - 0.1 * 9) and study.hypervolume() > 0


def test_the_reference_stays() -> None:
    study = in_memory(in_flight=12)
    trials = [study.ask() for _ in range(12)]
    for trial in trials[1:]:
        study.tell(trial, {"error": float(trial.id)})
    assert study.reference() is None and study.hypervolume() is None  # trial 0 is open
    study.tell(trials[0], Failure("nan"))
    first = study.reference()
    losses = np.array([[t.values["error"], t.values["macs"]] for t in study.trials[1:11]])
    assert list(first.values()) == pytest.approx(losses.max(0) + 0.1 * np.ptp(losses, axis=0))
    driven(study, 20)
    assert study.reference() == first


def test_exact_limits_are_met_before_anything_is_proposed() -> None:
    limit = 3e7
    limited = Objective("macs", limit=limit, exact=MACS.exact)
    for searcher in (RandomSearch(), RegularizedEvolution(10, 3), NSGA2(10)):
        study = driven(in_memory(searcher, (Objective("error"), limited)), 60)
        assert all(trial.values["macs"] <= limit for trial in study.trials)


def test_an_impossible_limit_ends_the_search_and_says_why() -> None:
    study = in_memory(objectives=(Objective("error"), Objective("macs", limit=10, exact=MACS.exact)))
    ended = study.ask()
    assert isinstance(ended, Exhausted) and "no architecture meets macs <= 10" in ended.reason
    assert study.trials == []


STUBBORN = """
from nas.trial import Proposal
class Stubborn:
    def init(self, context): return context
    def ask(self, state, rng): return Proposal(state.space.sample(rng), [], hints={'x': rng.random()})
    def proposed(self, state, trial): return state
    def told(self, state, trial, rng): return state
"""


class Stubborn:
    """A third party's searcher that looks at neither limits nor duplicates."""

    def __init__(self, codes: list[str]) -> None:
        self.codes = codes

    def init(self, context: Context) -> tuple[Context, int]:
        return context, 0

    def ask(self, state: tuple[Context, int], rng: np.random.Generator) -> Proposal:
        context, _ = state
        return Proposal(context.space.decode(self.codes[int(rng.integers(len(self.codes)))]))

    def proposed(self, state: Any, trial: Trial) -> Any:
        return state

    def told(self, state: Any, trial: Trial, rng: np.random.Generator) -> Any:
        return state[0], state[1] + 1


def test_the_study_checks_limits_and_duplicates_again() -> None:
    limited = Objective("macs", limit=3e7, exact=MACS.exact)
    codes = ["22222222", "22222221", "00000000"]
    study = in_memory(Stubborn(codes), (Objective("error"), limited))
    trial = study.ask()
    assert study.space.code(trial.architecture) == "00000000"
    study.tell(trial, {"error": 1})
    ended = study.ask()
    assert isinstance(ended, Exhausted) and "what was proposed before" in ended.reason
    kinds = [getattr(t.outcome, "kind", "ok") for t in study.trials]
    assert sorted(kinds) == ["infeasible", "infeasible", "ok"]
    assert "macs <= 30000000 must hold" in next(
        t.outcome.message for t in study.trials if isinstance(t.outcome, Failure)
    )


def test_only_infeasible_proposals_end_the_search() -> None:
    codes = [f"2222{i:04d}" for i in range(10000) if set(str(i).zfill(4)) <= set("12")]
    study = in_memory(Stubborn(codes), (Objective("error"), Objective("macs", limit=10, exact=MACS.exact)))
    ended = study.ask()
    assert isinstance(ended, Exhausted)
    assert all(t.outcome.kind == "infeasible" for t in study.trials)


def test_wrong_arguments() -> None:
    for kwargs, says in (
        ({"in_flight": 0}, "`in_flight >= 1` must hold"),
        ({"identity": "name"}, "identity must be"),
        ({"objectives": ()}, "objectives with different names"),
        ({"objectives": (MACS, MACS)}, "objectives with different names"),
    ):
        with pytest.raises(ValueError, match=says):
            in_memory(**kwargs)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_exact_values_that_are_not_finite_are_never_trained(value: float) -> None:
    odd = Objective("odd", exact=lambda arch, space: value if "22" in space.code(arch) else 1.0)
    study = in_memory(NSGA2(5), (Objective("error"), odd))
    for _ in range(20):
        trial = study.ask()
        assert trial.architecture and study.tell(trial, {"error": 1.0}).ok
    never = in_memory(objectives=(Objective("odd", exact=lambda arch, space: value),))
    ended = never.ask()
    assert isinstance(ended, Exhausted) and "has finite values" in ended.reason
    stubborn = in_memory(Stubborn(["22222222", "00000000"]), (Objective("error"), odd))
    assert stubborn.space.code(stubborn.ask().architecture) == "00000000"


def test_a_study_in_memory_has_no_folder() -> None:
    study = in_memory()
    for use in (lambda: study.folder, lambda: study.settings, study.run, study.verify):
        with pytest.raises(StoreError, match="in memory"):
            use()


# --- in a folder -----------------------------------------------------------------------------------


@pytest.fixture
def folder(finished_folder: Path, tmp_path: Path) -> Path:
    """A copy of a finished study."""
    return Path(shutil.copytree(finished_folder, tmp_path / "study"))


def test_a_study_trains_and_measures(finished_folder: Path) -> None:
    study = Study.open(finished_folder)
    assert len(study.trials) == 6 and study.front() and study.verify() is None
    for trial in study.trials:
        assert isinstance(trial.outcome, Result), trial
        cost = study.space.cost(study.space.canonical(trial.architecture))
        assert trial.values["params"] == cost.params and trial.values["macs"] == cost.macs
        assert trial.values["error"] == trial.outcome.curve[-1]["error"]
        assert [entry["epoch"] for entry in trial.outcome.curve] == [1, 2, 3]
        assert trial.outcome.cost["epochs"] == EPOCHS + trial.outcome.cost["epochs_distilled"]
        assert trial.outcome.cost["epochs_lost"] == 0
        assert (finished_folder / trial.outcome.weights).is_file()
    assert list((finished_folder / "scratch").iterdir()) == []
    study.close()


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_change_nothing(finished_folder: Path, tmp_path: Path, workers: int) -> None:
    with Study.create(tmp_path / "study", tables()) as study, Study.open(finished_folder) as serial:
        study.run(workers=workers)
        assert facts(study) == facts(serial)


def test_more_trials_continue_a_study(finished_folder: Path, tmp_path: Path) -> None:
    with Study.create(tmp_path / "study", tables()) as study:
        study.run(2)
        assert len(study.trials) == 2
    with Study.open(tmp_path / "study") as study, Study.open(finished_folder) as whole:
        study.run(6)
        assert facts(study) == facts(whole)


def test_a_finished_study_runs_on_at_no_cost(folder: Path) -> None:
    with Study.open(folder) as study:
        before = facts(study)
        assert study.run() is None and facts(study) == before


def test_ask_and_tell_in_a_folder(tmp_path: Path) -> None:
    with Study.create(tmp_path / "study", tables()) as study:
        trial = study.ask()
        study.tell(trial, {"error": 3.0})
        study.ask()
    with Study.open(tmp_path / "study") as study:
        assert [t.ok for t in study.trials] == [True, False] and study.trials[0].values["error"] == 3.0


def test_what_another_process_wrote_is_read_first(folder: Path) -> None:
    with Study.open(folder) as early:
        with Study.open(folder) as other:
            other.tell(other.ask(), {"error": 1.0})
        assert early.ask().id == 7


def test_verify_names_the_first_difference(folder: Path) -> None:
    db = sqlite3.connect(folder / "study.db")
    (text,) = db.execute("SELECT outcome FROM trials WHERE id = 2").fetchone()
    outcome = json.loads(text)
    outcome["values"]["params"] += 1
    db.execute("UPDATE trials SET outcome = ? WHERE id = 2", (json.dumps(outcome),))
    (text,) = db.execute("SELECT proposal FROM trials WHERE id = 4").fetchone()
    db.execute("UPDATE trials SET proposal = ? WHERE id = 4", (text.replace('"origin": "', '"origin": "x'),))
    db.commit()
    with Study.open(folder) as study:
        assert study.verify().startswith("trial 2: params is recorded as")
    db.execute("UPDATE trials SET outcome = replace(outcome, ?, ?) WHERE id = 2", (json.dumps(outcome), ""))
    outcome["values"]["params"] -= 1
    db.execute("UPDATE trials SET outcome = ? WHERE id = 2", (json.dumps(outcome),))
    db.commit()
    db.close()
    with Study.open(folder) as study:
        assert study.verify().startswith("trial 4: origin is recorded as 'x")


def test_create_refuses_a_study_and_foreign_files(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="holds a study already"):
        Study.create(folder, tables())
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.tex").touch()
    with pytest.raises(StoreError, match=r"it holds thesis\.tex"):
        Study.create(tmp_path / "other", tables())
    with pytest.raises(StoreError, match="must be the folder of a study"):
        Study.open(tmp_path / "nowhere")


def test_a_study_that_another_process_made_meanwhile_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both find the folder free; the slower one gets the lock when the quicker one has let go of it."""
    quicker = Study.create

    def lock_after_the_other(folder: Path) -> Any:
        monkeypatch.setattr(module, "lock_folder", lock_folder)
        with quicker(folder, tables()) as study:
            study.tell(study.ask(), {"error": 1.0})
        return lock_folder(folder)

    monkeypatch.setattr(module, "lock_folder", lock_after_the_other)
    with pytest.raises(StoreError, match="holds a study already"):
        Study.create(tmp_path / "study", tables())
    with Study.open(tmp_path / "study") as study:
        assert len(study.trials) == 1


def test_exact_values_that_are_not_finite_verify(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A searcher that does not look proposes them; they are recorded as failed, without the value."""
    (tmp_path / "nan_parts.py").write_text(
        STUBBORN
        + "from nas import Objective\n"
        + "def odd(): return Objective('odd', exact=lambda arch, space: float('nan'))\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    own = tables() | {
        "searcher": "nan_parts:Stubborn",
        "objectives": [{"name": "error"}, {"name": "params"}, {"name": "nan_parts:odd"}],
    }
    with Study.create(tmp_path / "study", own) as study:
        assert isinstance(study.ask(), Exhausted)
        assert {trial.outcome.kind for trial in study.trials} == {"nan"}
        assert study.verify() is None


def test_a_half_written_folder_is_made_anew(tmp_path: Path) -> None:
    half = tmp_path / "study"
    prepare(DataSettings(limit=100), 7, half / "data")  # of other settings
    (half / "data.partial").mkdir(parents=True)
    (half / "study.db").touch()
    with Study.create(half, tables()) as study:
        assert study.trials == [] and sum(read_info(half / "data").counts.values()) == 300


def test_a_data_folder_of_somebody_else_is_kept(tmp_path: Path) -> None:
    (tmp_path / "data" / "cats").mkdir(parents=True)
    (tmp_path / "data" / "cats" / "a.png").write_bytes(b"cat")
    with pytest.raises(StoreError, match="it holds data"):
        Study.create(tmp_path, tables())
    assert (tmp_path / "data" / "cats" / "a.png").read_bytes() == b"cat"


def test_a_data_set_that_was_removed_is_prepared_anew(folder: Path) -> None:
    with Study.open(folder) as study:
        before = facts(study)
    shutil.rmtree(folder / "data")
    with Study.open(folder) as study:
        assert facts(study) == before and study.verify() is None
    prepared = (folder / "data" / "info.json").read_text()
    (folder / "data" / "info.json").write_text(prepared.replace('"sha256": "', '"sha256": "0'))
    with pytest.raises(StoreError, match="its digest differs"):
        Study.open(folder)


def test_a_damaged_data_set_stops_a_run_and_nothing_is_lost(folder: Path) -> None:
    path = folder / "data" / "validation_x.npy"
    whole = path.read_bytes()
    path.write_bytes(whole[:50])
    with Study.open(folder) as study, pytest.raises(DataError, match="must be as it was prepared"):
        study.run(7)
    path.write_bytes(whole)
    with Study.open(folder) as study:
        study.run(7)
        assert len(study.trials) == 7 and study.trials[6].ok


def test_a_fault_of_the_machine_stops_a_run_and_leaves_the_trial_open(folder: Path) -> None:
    (folder / "scratch" / "00006").write_text("a file where the worker's folder should be")
    with Study.open(folder) as study:
        with pytest.raises(Outage, match="its open trials stay open: FileExistsError"):
            study.run(7)
        assert study.trials[6].outcome is None
    (folder / "scratch" / "00006").unlink()
    with Study.open(folder) as study:
        study.run(7)
        assert study.trials[6].ok


def test_an_infeasible_proposal_is_recorded_with_its_outcome(tmp_path: Path) -> None:
    """There is no moment at which a killed driver leaves it open, to be trained by the next."""
    (tmp_path / "stubborn_parts.py").write_text(STUBBORN)
    limited = tables() | {
        "searcher": {"name": "stubborn_parts:Stubborn"},
        "objectives": [{"name": "error"}, {"name": "params", "limit": 700}],
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(tmp_path)
        with Study.create(tmp_path / "study", limited) as study:
            patch.setattr(Store, "finish", lambda *_: pytest.fail("an infeasible trial was open"))
            asked = study.ask()
            assert isinstance(asked, Trial)
        with Study.open(tmp_path / "study") as study:
            kinds = [trial.outcome and trial.outcome.kind for trial in study.trials]
            assert kinds[-1] is None and "infeasible" in kinds


def test_what_a_run_needs_is_checked_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "told_parts.py").write_text(
        "from nas import Objective\ndef told(): return Objective('told')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    own = tables() | {"objectives": [{"name": "error"}, {"name": "told_parts:told"}]}
    with Study.create(tmp_path / "a", own) as study:
        with pytest.raises(SettingsError, match="'told' must have `exact` or `measure`"):
            study.run()
        assert study.trials == []
    cuda = tables() | {"training": {"device": "cuda:99"}}
    with Study.create(tmp_path / "b", cuda) as study, pytest.raises(SettingsError, match="cuda device"):
        study.run()


@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        ({"space": {"name": "chian"}}, UnknownName, "did you mean 'chain'"),
        ({"space": {"name": "chain", "depht": [1, 2]}}, UnknownName, "depht"),
        ({"space": {"name": "chain", "depth": [3, 2]}}, UnknownName, "smallest depth <= largest depth"),
        ({"searcher": {"name": "nsga2", "population": 0}}, UnknownName, "1 <= population"),
        ({"searcher": {"name": "nas.searchers:NSGA5"}}, UnknownName, "has no 'NSGA5'; did you mean 'NSGA.'"),
        ({"objectives": [{"name": "error", "limit": -1}]}, UnknownName, "limit"),
        ({"objectives": [{"name": "no.such.module:f"}]}, UnknownName, "must be importable"),
        ({"data": {"name": "npz", "path": "/nowhere.npz"}}, DataError, "nowhere"),
        ({"data": {"name": "digit"}}, DataError, "digits"),
        ({"training": {"device": "cpu", "lr": "fast"}}, SettingsError, "training.lr"),
        ({"training": {"device": "gpu"}}, SettingsError, "must be cpu, auto, cuda"),
        ({"searcher": {"name": "nsga2", "population": 7.5}}, UnknownName, "`population` must be a whole"),
        ({"searcher": {"name": "nsga2", "population": "x"}}, UnknownName, "`population` must be a whole"),
        ({"space": {"name": "chain", "widths": [8, "x"]}}, UnknownName, r"`widths\[1\]` must be a whole"),
        ({"objectives": [{"name": "params", "limit": "10"}]}, UnknownName, "`limit` must be"),
        (
            {"objectives": [{"name": "params"}, {"name": "params", "form": "written"}]},
            SettingsError,
            "must have different names",
        ),
        ({"study": {"reference": {"eror": 100.0}}}, SettingsError, "`study.reference` must name each"),
        ({"space": {"name": "chian"}, "data": {"name": "npz"}}, UnknownName, "did you mean 'chain'"),
        ({"searcher": {"name": "bayesian", "acquisition": "ei"}}, SettingsError, "is for one objective"),
        ({"searcher": {"name": "bayesian", "acquisition": "best"}}, UnknownName, "acquisition must be one"),
        ({"searcher": {"name": "pso"}}, SettingsError, "PSO needs a space with bounds"),
    ],
)
def test_wrong_settings_end_at_the_start(
    tmp_path: Path, change: dict[str, Any], error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says):
        Study.create(tmp_path / "study", tables() | change)
    assert not (tmp_path / "study" / "data").exists()
    with Study.create(tmp_path / "study", tables()):  # what the failed creation left is no hindrance
        pass


def test_settings_come_as_a_value_tables_or_a_file(tmp_path: Path) -> None:
    with Study.create(tmp_path / "a", Settings()) as study:
        assert study.settings == Settings()
    (tmp_path / "study.toml").write_text("[study]\nseed = 9\n")
    with Study.create(tmp_path / "b", tmp_path / "study.toml") as study:
        assert study.settings == Settings(seed=9)


def test_an_impossible_limit_ends_a_run(tmp_path: Path) -> None:
    limited = tables() | {"objectives": [{"name": "error"}, {"name": "params", "limit": 10}]}
    with Study.create(tmp_path / "study", limited) as study:
        ended = study.run()
        assert ended is not None and "no architecture meets params <= 10" in ended.reason


def test_a_reference_of_the_settings(tmp_path: Path) -> None:
    point = {"error": 100.0, "params": 1e5, "macs": 1e7}
    with Study.create(tmp_path / "study", tables() | {"study": {"reference": point}}) as study:
        trial = study.ask()
        study.tell(trial, {"error": 50.0})
        params, macs = study.trials[0].values["params"], study.trials[0].values["macs"]
        assert study.hypervolume() == pytest.approx(50 * (1e5 - params) * (1e7 - macs))
