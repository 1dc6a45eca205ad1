"""Spaces as points, GA and PSO on them against closed forms and slow references, and published settings."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from nas import pareto, registry
from nas.architecture import Architecture
from nas.protocols import NumericSpace, Objective
from nas.searchers import GA, NSGA2, PSO, RandomSearch, nemo, nsganet
from nas.searchers.ga import crossed, mutated
from nas.searchers.nsga2 import State
from nas.searchers.pso import Particle
from nas.trial import Proposal, Trial
from search_spaces.chain import ChainSpace
from search_spaces.template import TemplateSpace
from tests.searching import MACRO, OBJECTIVES, make, member, run
from tests.small_spaces import SMALL_SPACES

SPACES = {name: build() for name, build in SMALL_SPACES.items()}
NUMERIC = {name: space for name, space in SPACES.items() if isinstance(space, NumericSpace)}
every_space = pytest.mark.parametrize("space", NUMERIC.values(), ids=NUMERIC)


# --- architectures as points ---------------------------------------------------------------------------


def test_which_spaces_are_numeric() -> None:
    assert set(SPACES) - set(NUMERIC) == {
        *("chain", "chain, gated", "chain of series"),
        *("mlp", "metaqnn", "nasbench101"),
    }


@every_space
@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_points_there_and_back(space: Any, seed: int) -> None:
    """Also of what has ids of its own, which come back as the natural ones."""
    rng = np.random.default_rng(seed)
    lower, upper = space.bounds
    arch, other = space.sample(rng), space.sample(rng)
    assert space.from_vector(space.vector(arch)) == arch
    for child in (space.mutate(arch, rng), space.crossover(arch, other, rng)):
        point = space.vector(child)
        assert ((lower <= point) & (point <= upper)).all()
        assert space.from_vector(point).key == child.key


@every_space
@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), beyond=st.floats(0, 3))
def test_any_point_has_an_architecture(space: Any, seed: int, beyond: float) -> None:
    """Within the bounds and beyond; where all genes matter and fit, it is the point rounded."""
    rng = np.random.default_rng(seed)
    lower, upper = space.bounds
    x = rng.uniform(lower - beyond, upper + beyond)
    arch = space.from_vector(x)
    space.check(arch)
    found = space.vector(arch)
    assert ((lower <= found) & (found <= upper)).all()
    if not isinstance(space, TemplateSpace):
        matters = found > 0
        assert found[matters].tolist() == np.clip(np.rint(x), lower, upper)[matters].tolist()


def test_a_point_of_nasbench_macro() -> None:
    lower, upper = MACRO.bounds
    assert (lower.tolist(), upper.tolist()) == ([0] * 8, [2] * 8)
    assert MACRO.vector(MACRO.decode("01220112")).tolist() == [0, 1, 2, 2, 0, 1, 1, 2]
    assert MACRO.code(MACRO.from_vector(np.array([-5, 0.49, 0.51, 1, 1.49, 1.51, 2, 9]))) == "00111222"


@pytest.mark.parametrize("x", [np.zeros(7), np.full(8, np.nan), np.array([0.0] * 7 + [np.inf])])
def test_what_is_no_point(x: Any) -> None:
    with pytest.raises(ValueError, match="a point must be 8 finite numbers, but got"):
        MACRO.from_vector(x)


def test_the_nearest_that_fits_is_found() -> None:
    """Two widths that an add makes equal, against all combinations that fit."""
    widths = {"choice": [4, 8, 12, 16]}
    space = TemplateSpace(
        (4, 4, 4),
        nodes=[
            {"name": "a", "op": "conv", "kernel": {"choice": [1, 3]}, "width": widths},
            {"name": "b", "op": "conv", "kernel": 3, "width": widths},
            {"op": "add", "inputs": ["a", "b"]},
        ],
    )
    (genes,) = space.genes.values()
    points = np.array([p for p in product(*(range(len(g.choices)) for g in genes)) if p[1] == p[2]])
    assert [g.name for g in genes] == ["a.kernel", "a.width", "b.width"]
    rng = np.random.default_rng(0)
    for x in rng.uniform(-1, 4, (100, 3)):
        found = space.vector(space.from_vector(x))
        nearest = ((points - x) ** 2).sum(axis=1).min()
        assert ((found - x) ** 2).sum() == pytest.approx(nearest)


def test_a_template_where_nothing_near_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("search_spaces.template.NEAREST", 0)
    space = SPACES["template"]
    arch = space.from_vector(space.bounds[0])
    space.check(arch)
    assert space.from_vector(space.bounds[1]) == arch


@pytest.mark.parametrize("searcher", [GA(), PSO()])
def test_other_spaces_are_refused_at_the_start(searcher: Any) -> None:
    name = type(searcher).__name__
    with pytest.raises(
        ValueError, match=f"{name} needs a space with bounds, vector and from_vector, such as"
    ):
        make(searcher, space=ChainSpace())


# --- searching -----------------------------------------------------------------------------------------


def away(trial: Trial) -> dict[str, float]:
    """Squared distance to a point of NAS-Bench-Macro, and to another."""
    x = MACRO.vector(trial.architecture)
    return {"error": float(((x - 2 + np.arange(8) % 3) ** 2).sum()), "twos": -float((x**2).sum())}


SPHERES = (Objective("error"), Objective("twos", maximize=True))


@pytest.mark.parametrize("objectives", [1, 2])
@pytest.mark.parametrize("searcher", [GA(), PSO(), nsganet(20, 20), nemo(20)], ids=lambda s: type(s).__name__)
def test_searching_beats_sampling(searcher: Any, objectives: int) -> None:
    """Mean hypervolume of 100 trials over three seeds, on a sphere or two."""
    volumes = []
    for tried in (searcher, RandomSearch()):
        for seed in range(3):
            search = make(tried, SPHERES[:objectives], seed=seed)
            run(search, 100, away)
            volumes.append(pareto.hypervolume(search.losses(search.trials), [33.0, 33.0][:objectives]))
    assert sum(volumes[:3]) > sum(volumes[3:])


# --- GA ------------------------------------------------------------------------------------------------


def test_sbx_has_its_law() -> None:
    """Half of the numbers are crossed; of these half land between the parents, symmetrically around them."""
    n = 4000
    first, second = np.full(n, 400.0), np.full(n, 600.0)  # bounds so far that they do not matter
    (x,) = crossed(first[None], second[None], np.zeros(n), np.full(n, 1000.0), 30.0, np.random.default_rng(0))
    kept = (x == 400) | (x == 600)
    inside = (np.abs(x - 500) < 100) & ~kept
    above = (x > 500) & ~kept
    for count, total in ((kept.sum(), n), (inside.sum(), (~kept).sum()), (above.sum(), (~kept).sum())):
        assert stats.binomtest(int(count), int(total), 0.5).pvalue > 0.01


@pytest.mark.parametrize("at", [0.0, 0.3, 1.0])
def test_polynomial_mutation_has_its_law(at: float) -> None:
    """Quantiles of Deb & Agrawal's density, bounded; eta 3, all numbers mutate."""
    n, power = 4000, 4.0
    (x,) = mutated(np.full((1, n), at), np.zeros(n), np.ones(n), 3.0, n, np.random.default_rng(1))
    u = (np.arange(n) + 0.5) / n
    below = (2 * u + (1 - 2 * u) * (1 - at) ** power) ** (1 / power) - 1
    above = 1 - (2 * (1 - u) + (2 * u - 1) * at**power) ** (1 / power)
    assert np.abs(np.sort(x) - (at + np.where(u <= 0.5, below, above))).max() < 0.05


def test_so_many_numbers_mutate_and_stay_in_bounds() -> None:
    lower, upper = np.zeros(10), np.arange(10.0)  # the first has no choice
    changed = []
    for seed in range(300):
        (x,) = mutated(upper[None] / 2, lower, upper, 3.0, 2.0, np.random.default_rng(seed))
        assert ((lower <= x) & (x <= upper)).all()
        changed.append((x != upper / 2).sum())
    assert np.mean(changed) == pytest.approx(2.0 * 0.9, abs=0.25)


def test_a_child_lies_between_and_around_its_parents() -> None:
    """Without mutation a gene in which both parents agree stays, as do all genes of a single parent."""
    search = make(GA(population=8, crossover=1.0, mutation=0.0), OBJECTIVES[1])
    run(search, 60)
    children = [t.proposal for t in search.trials if t.proposal.origin == "crossover+mutate"]
    first = [p for p in children if p.architecture == agreeing(search, p)]
    assert len(first) > 10


def test_a_parents_place_is_that_among_all_it_was_chosen_from() -> None:
    search, errors = make(GA(population=3, offspring=2), OBJECTIVES[1]), [4.0, 2.0, 2.0, 1.0, 9.0]
    for trials, survivors, places in ((3, [2, 2, 4], [0, 0, 1]), (5, [1, 2, 2], [0, 1, 1])):
        run(search, trials, lambda trial: {"error": errors[trial.id]})
        search.ask()  # it is told before
        state = search._state
        assert [member.losses[0] for member in state.population] == survivors
        assert state.standing.tolist() == places


def agreeing(search: Any, proposal: Proposal) -> Architecture:
    """The proposal with the value of both parents in the genes where they agree."""
    a, b = (MACRO.vector(search.trials[i].architecture) for i in proposal.parents)
    return MACRO.from_vector(np.where(a == b, a, MACRO.vector(proposal.architecture)))


# --- PSO -----------------------------------------------------------------------------------------------


def test_a_move_is_the_equation() -> None:
    """Number by number; what leaves the bounds lands between where it was and the bound."""
    rng = np.random.default_rng(7)
    d, pso = 12, PSO(inertia=0.7, cognitive=1.4, social=1.1, speed=0.4)
    lower, upper = np.zeros(d), np.arange(d) + 1.0
    cut = out = 0
    for seed in range(100):
        x, own, leader = rng.uniform(lower, upper, (3, d))
        v = rng.uniform(-1, 1, d)
        particle = Particle(x, v, member(0, [0.0]), 0)
        position, velocity = pso.moved(particle, own, leader, lower, upper, np.random.default_rng(seed))
        r1, r2 = np.random.default_rng(seed).random((2, 1, d))[:, 0]
        for i in range(d):
            new = 0.7 * v[i] + 1.4 * r1[i] * (own[i] - x[i]) + 1.1 * r2[i] * (leader[i] - x[i])
            most = 0.4 * (upper[i] - lower[i])
            cut += abs(new) > most
            new = min(max(new, -most), most)
            assert velocity[i] == pytest.approx(new)
            if lower[i] <= x[i] + new <= upper[i]:
                assert position[i] == pytest.approx(x[i] + new)
            else:
                out += 1
                low, high = (lower[i], x[i]) if x[i] + new < lower[i] else (x[i], upper[i])
                assert low <= position[i] <= high
    assert cut > 20 and out > 20


@pytest.mark.parametrize("in_flight", [1, 3])
def test_particles_are_where_they_proposed_and_know_their_best(in_flight: int) -> None:
    search = make(PSO(population=5), OBJECTIVES[1], in_flight=in_flight)
    run(search, 60)
    search.ask()
    lower, upper = MACRO.bounds
    for i, particle in enumerate(search._state.swarm):
        own = search.trials[i::5]
        assert MACRO.from_vector(particle.position) == own[-1].architecture
        told = [t for t in own if t.id <= 60 - in_flight]
        assert particle.best.losses[0] == min(t.values["error"] for t in told)
        assert ((lower <= particle.position) & (particle.position <= upper)).all()
        assert (np.abs(particle.velocity) <= PSO().speed * (upper - lower) + 1e-12).all()
    flown = [t for t in search.trials[5:] if t.proposal.origin == "swarm"]
    assert len(flown) > 20


def test_a_proposal_off_the_flight_moves_the_particle_there() -> None:
    """As where the space's mutation helped, or someone recorded another proposal."""
    search = make(PSO(population=3), OBJECTIVES[1])
    run(search, 9)
    search.ask()
    elsewhere = MACRO.decode("20202020")
    search.propose(Proposal(elsewhere))
    assert search._state.swarm[0].position.tolist() == MACRO.vector(elsewhere).tolist()


def test_all_follow_the_one_that_leads() -> None:
    """Without memory and inertia particles come nearer to the best of all, with any outcome elsewhere."""
    search = make(PSO(population=6, inertia=0.0, cognitive=0.0, social=1.0, speed=1.0), OBJECTIVES[1])
    run(search, 6, lambda t: {"error": float(t.id != 2)})
    goal = MACRO.vector(search.trials[2].architecture)
    for i in range(6):
        proposal = search.ask()
        assert isinstance(proposal, Proposal)
        assert proposal.parents[-1] == 2
        start = search._state.swarm[i].position
        search.finish(search.propose(proposal).id, search.completed(search.trials[-1], {"error": 1.0}))
        if proposal.origin == "swarm":
            now = search._state.swarm[i].position
            assert (np.abs(now - goal) <= np.abs(start - goal) + 1e-12).all()


# --- published settings --------------------------------------------------------------------------------


def test_nsganet_and_nemo_are_settings_of_nsga2() -> None:
    some = 1 - np.exp(-1)
    assert nsganet() == NSGA2(40, 40, 1.0, some, "dominance")
    assert nemo() == NSGA2(100, None, 0.9, some, "rank")
    assert registry.make("searcher", "nsganet", {"population": 7}) == NSGA2(7, 40, 1.0, some, "dominance")
    assert registry.make("searcher", "nemo", {"tournament": "dominance"}).tournament == "dominance"
    assert registry.make("searcher", "ga", {"eta": 5}) == GA(eta=5)
    assert registry.make("searcher", "pso", {}) == PSO()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tournament": "crowding"}, "`tournament` must be one of 'rank', 'dominance', but got 'crowding'"),
        ({"pop": 3}, "'nsganet' has no option 'pop'"),
        ({"population": 0}, "`1 <= population`"),
    ],
)
def test_wrong_settings_of_nsganet(options: dict[str, Any], message: str) -> None:
    with pytest.raises(registry.UnknownName, match=message):
        registry.make("searcher", "nsganet", options)


@pytest.mark.parametrize(("tournament", "winner"), [("rank", 0), ("dominance", 1)])
def test_the_tournament_decides(tournament: Any, winner: int) -> None:
    """Neither dominates the other: the better rank wins, or the less crowded."""
    population = [member(0, [1, 5], rank=0, crowding=0.1), member(1, [6, 1], rank=1, crowding=9.0)]
    searcher = NSGA2(population=2, crossover=0.0, tournament=tournament)
    state = State(make(searcher).context, population, proposals=2)
    asked = [searcher.ask(state, np.random.default_rng(seed)) for seed in range(20)]
    assert {p.parents for p in asked if isinstance(p, Proposal)} == {(winner,)}
