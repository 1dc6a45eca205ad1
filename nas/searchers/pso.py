"""Particle swarm optimisation (Kennedy & Eberhart 1995, "Particle Swarm Optimization"; Shi & Eberhart 1998,
"A modified particle swarm optimizer"). The equation is pymoo's."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import cast

import numpy as np

from nas.architecture import Architecture
from nas.protocols import Context, Exhausted, NumericSpace
from nas.searchers.box import Floats
from nas.searchers.draws import Draw, Written, mutant, widening
from nas.searchers.members import Member
from nas.searchers.novelty import first_new
from nas.searchers.numeric import numeric
from nas.searchers.scalars import Scalarisation, Setting, bound, scalarisation_of
from nas.searchers.selection import failed, places, tournament
from nas.trial import Proposal, Trial

STEPS = 4
"""Moves that a particle makes for one proposal, until it is where nobody was."""

SWARM = "swarm"
"""Origin of what a particle flew to."""


@dataclass(frozen=True, slots=True, eq=False)
class Particle:
    """A particle after its last proposal.

    Attributes:
        position, velocity: `float64[d]`; the position is not rounded.
        best: the best trial it was at.
        seed: of its next moves, so that a replay moves it alike.
    """

    position: Floats
    velocity: Floats
    best: Member
    seed: int


@dataclass(slots=True)
class Flight:
    """Where a particle goes next.

    Attributes:
        guides: the best of the particle itself, and of its leader.
        moves: the particle after each move so far, and the architecture nearest to it.
        turn: what the further moves draw from.
    """

    guides: tuple[Member, Member]
    moves: list[tuple[Particle, Architecture]]
    turn: np.random.Generator


@dataclass(slots=True)
class State:
    """`swarm[i]` proposes the trials i, i + population, i + 2 population …

    Attributes:
        flight: of the next proposal; remembered, flown anew where missing.
    """

    context: Context
    scalarisation: Scalarisation | None = None
    swarm: list[Particle] = field(default_factory=list)
    proposals: int = 0
    flight: Flight | None = None

    @property
    def space(self) -> NumericSpace:
        """It was checked at the start."""
        return cast(NumericSpace, self.context.space)


@dataclass(frozen=True)
class PSO:
    """Particles fly towards the best they were at and the best of a leader; where they are is rounded.

    A particle moves when its turn has come and its last trial was told, so nothing waits for the swarm. It
    moves on until the architecture nearest to it is new; where that takes too long it is put beside its best
    by the space's mutation. With several objectives the better is that of the first rank among the
    particles' bests, then the least crowded, unless `scalarisation` says otherwise. Less violation of limits
    goes first.

    Attributes:
        population: particles.
        inertia, cognitive, social: w, c_1, c_2; pymoo's, which it then adapts.
        speed: greatest velocity in ranges of each number. pymoo's .2 is for real numbers: of few choices it
            rounds to none.
        leaders: a leader is the best of so many particles, drawn for each turn; all give pymoo's.
        scalarisation: one number of several objectives, see `nas.searchers.scalars`.

    Raises:
        ValueError: a number is out of range, or the scalarisation is wrong.
    """

    population: int = 20
    inertia: float = 0.9
    cognitive: float = 2.0
    social: float = 2.0
    speed: float = 0.5
    leaders: int = 10
    scalarisation: Setting = None

    def __post_init__(self) -> None:
        if self.population < 1 or self.leaders < 1:
            raise ValueError(
                "`1 <= population` and `1 <= leaders` must hold, but got "
                f"({self.population=}, {self.leaders=})"
            )
        if not all(0 <= number < np.inf for number in (self.inertia, self.cognitive, self.social)):
            raise ValueError(
                "`0 <= inertia, cognitive, social < inf` must hold, but got "
                f"({self.inertia=}, {self.cognitive=}, {self.social=})"
            )
        if not 0 < self.speed <= 1:
            raise ValueError(f"`0 < speed <= 1` must hold, but got {self.speed=}")
        scalarisation_of(self.scalarisation)

    def init(self, context: Context) -> State:
        numeric(context, "PSO")
        return State(context, bound(self.scalarisation, context))

    def ask(self, state: State, rng: np.random.Generator) -> Proposal | Exhausted:
        place = state.proposals % self.population
        if place >= len(state.swarm):
            return first_new(state.context, rng)
        return first_new(state.context, rng, self._draws(state, place, rng))

    def _draws(self, state: State, place: int, rng: np.random.Generator) -> Iterator[Draw]:
        """Where the particle flies to, then mutations of its best."""
        space = state.context.space
        flight = self._flight(state, place)
        parents = tuple(dict.fromkeys(guide.trial.id for guide in flight.guides))
        for _, there in self._moves(state, place, flight):
            yield Draw(Written(space, there), parents, SWARM)
        for changes in widening():
            yield mutant(space, flight.guides[0].trial, changes, rng)

    def _flight(self, state: State, place: int) -> Flight:
        """That of the particle whose turn it is."""
        if state.flight is None:
            turn = np.random.default_rng(state.swarm[place].seed)
            state.flight = Flight(self._guides(state, place, turn), [], turn)
        return state.flight

    def _guides(self, state: State, place: int, rng: np.random.Generator) -> tuple[Member, Member]:
        """The best of the particle itself, and of its leader; twice the leader where all its own failed."""
        own = state.swarm[place].best
        bests = [particle.best for particle in state.swarm]
        able = [best for best in bests if not failed(best)] or bests
        standing = places(able, state.context.objectives, state.scalarisation, rng)
        leader = able[tournament(standing, rng, self.leaders)]
        return (leader if failed(own) else own), leader

    def _moves(self, state: State, place: int, flight: Flight) -> Iterator[tuple[Particle, Architecture]]:
        """All `STEPS` moves, those made before first."""
        space, moves = state.space, flight.moves
        own, leader = (space.vector(guide.trial.architecture) for guide in flight.guides)
        for step in range(STEPS):
            if step == len(moves):
                particle = moves[-1][0] if moves else state.swarm[place]
                position, velocity = self.moved(particle, own, leader, *space.bounds, flight.turn)
                moved = Particle(position, velocity, particle.best, particle.seed)
                moves.append((moved, space.from_vector(position)))
            yield moves[step]

    def moved(
        self, particle: Particle, own: Floats, leader: Floats, lower: Floats, upper: Floats,
        rng: np.random.Generator,
    ) -> tuple[Floats, Floats]:  # fmt: skip
        """(position, velocity) after v <- w v + c_1 r_1 (own - x) + c_2 r_2 (leader - x), x <- x + v.

        r_1, r_2 are uniform on [0, 1] for each number; v is cut at `speed`. A number that leaves the bounds
        lands somewhere between where it was and the bound, as in pymoo.
        """
        from pymoo.algorithms.soo.nonconvex.pso import pso_equation
        from pymoo.operators.repair.bounds_repair import repair_random_init

        x, r1, r2 = particle.position[None], *rng.random((2, 1, len(own)))
        position, velocity = pso_equation(
            x, own[None], leader[None], particle.velocity[None], self.speed * (upper - lower),
            self.inertia, self.cognitive, self.social, r1, r2,
        )  # fmt: skip
        return repair_random_init(position, x, lower, upper, random_state=rng)[0], velocity[0]

    def proposed(self, state: State, trial: Trial) -> State:
        """Moves the particle to where it proposed; off its flight, to the point of the architecture, with the
        velocity it had."""
        place = state.proposals % self.population
        state.proposals += 1
        if place < len(state.swarm):
            flown = trial.proposal.origin == SWARM
            moves = self._moves(state, place, self._flight(state, place)) if flown else ()
            now = next((particle for particle, there in moves if there == trial.architecture), None)
            if now is None:
                now = replace(state.swarm[place], position=state.space.vector(trial.architecture))
            state.swarm[place] = now
        state.flight = None
        return state

    def told(self, state: State, trial: Trial, rng: np.random.Generator) -> State:
        """Renews the best of its particle, which may then move again; of equals the younger is the best."""
        state.flight = None
        member, seed = Member.of(state.context, trial), int(rng.integers(2**63))
        if trial.id < self.population:
            lower, upper = state.space.bounds
            velocity = rng.random(len(lower)) * self.speed * (upper - lower)  # pymoo's "random"
            state.swarm.append(Particle(state.space.vector(trial.architecture), velocity, member, seed))
            return state
        place = trial.id % self.population
        members = [*(particle.best for particle in state.swarm), member]
        standing = places(members, state.context.objectives, state.scalarisation, rng)
        particle = state.swarm[place]
        best = member if standing[-1] <= standing[place] else particle.best
        state.swarm[place] = replace(particle, best=best, seed=seed)
        return state
