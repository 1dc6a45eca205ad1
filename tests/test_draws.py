"""Children before they are written, and what is spared by it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from nas.architecture import Architecture
from nas.protocols import NothingToChange
from nas.searchers import RandomSearch
from nas.searchers.draws import Draw, Written, changed, draft_of, further, widening
from nas.searchers.novelty import first_allowed
from search_spaces.chain import ChainSpace
from search_spaces.genes import Sketch
from search_spaces.nasbench_macro import NASBenchMacroSpace
from tests.searching import MACRO, OBJECTIVES, make


@dataclass
class Counted:
    """A draft that counts how often it is written."""

    code: str
    times: Counter[str] = field(default_factory=Counter)

    def mutated(self, rng: np.random.Generator) -> Counted:
        raise NothingToChange("there is nothing else")

    def crossed(self, mate: Architecture, rng: np.random.Generator) -> Counted:
        return self

    def natural(self) -> Architecture:
        return MACRO.decode(self.code)

    def written(self) -> Architecture:
        self.times[self.code] += 1
        return MACRO.decode(self.code)


def test_what_was_proposed_is_not_written_again() -> None:
    search = make(RandomSearch(), OBJECTIVES[1])
    one, two, three = "00000001", "00000002", "00000011"
    times = Counter[str]()

    def draws() -> Iterator[Draw]:
        yield from (Draw(Counted(code, times)) for code in (one, two, three))

    for code in (one, two):
        proposal = first_allowed(search.context, draws())
        assert proposal is not None and proposal.architecture == MACRO.decode(code)
        search.propose(proposal)
    for _ in range(2):
        assert first_allowed(search.context, draws()) is not None
    assert times == {one: 1, two: 1, three: 2}


def test_nothing_to_change_leaves_a_draft_as_it_is() -> None:
    draft = Counted("00000001")
    assert further(draft, 3, np.random.default_rng(0)) is draft
    assert list(widening()) == [1, 1, 1, 2, 3, 4, 5, 6, 7, 8]


def test_a_space_with_changes_of_its_own_has_no_drafts_of_genes() -> None:
    class Own(NASBenchMacroSpace):
        def mutate(self, arch: Architecture, rng: np.random.Generator) -> Architecture:
            return self.decode("22222222")

    class Wrapped:
        """Passes on what it has not."""

        def mutate(self, arch: Architecture, rng: np.random.Generator) -> Architecture:
            return MACRO.decode("22222222")

        def __getattr__(self, name: str) -> Any:
            return getattr(MACRO, name)

    patched: Any = NASBenchMacroSpace()
    patched.mutate = Wrapped().mutate
    rng, arch = np.random.default_rng(0), MACRO.decode("00000001")
    assert isinstance(draft_of(MACRO, arch), Sketch)
    spaces: list[Any] = [Own(), Wrapped(), patched]
    for space in spaces:
        assert isinstance(draft_of(space, arch), Written)
        assert changed(space, arch, 1, rng).written() == MACRO.decode("22222222")


def test_a_space_may_make_no_drafts() -> None:
    rng, space = np.random.default_rng(0), ChainSpace((1, 8, 8), 10)
    assert not hasattr(space, "draft")
    arch = space.sample(rng)
    assert isinstance(draft_of(space, arch), Written)
    assert changed(space, arch, 1, rng).written() != arch
