"""Work that is kept running while what is wanted changes."""

import asyncio
from collections.abc import AsyncIterator, Hashable, Mapping
from contextlib import asynccontextmanager
from functools import partial

import pytest

from mainstem.runtime import Piece, keep_running
from mainstem.testkit.waiting import running, until


class Wanted:
    """What is wanted, by name with what it stands on, and what was done about it."""

    def __init__(self, **pieces: int) -> None:
        self.pieces = pieces
        self.changed = asyncio.Event()
        self.asked = 0
        self.told: list[str] = []

    async def __call__(self) -> Mapping[Hashable, Piece]:
        """Return the pieces."""
        self.asked += 1
        return {name: (basis, partial(self._work, name, basis)) for name, basis in self.pieces.items()}

    async def _work(self, name: str, basis: int) -> None:
        self.told.append(f"{name}{basis} begins")
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            self.told.append(f"{name}{basis} ends")

    async def change(self, things: int, **pieces: int) -> list[str]:
        """Want something else; return what is done about it once it is so many things."""
        self.pieces, self.told, asked = pieces, [], self.asked
        self.changed.set()
        await until(lambda: self.asked > asked and len(self.told) >= things)
        return self.told


@asynccontextmanager
async def kept(wanted: Wanted) -> AsyncIterator[Wanted]:
    async with running(keep_running(wanted.changed, wanted)):
        await until(lambda: len(wanted.told) == len(wanted.pieces))
        yield wanted


async def test_what_is_wanted_runs_until_the_end() -> None:
    async with kept(Wanted(a=1, b=1)) as wanted:
        assert wanted.told == ["a1 begins", "b1 begins"]
    assert sorted(wanted.told[2:]) == ["a1 ends", "b1 ends"]


async def test_what_stands_on_something_else_has_ended_before_it_begins_anew_and_the_rest_goes_on() -> None:
    async with kept(Wanted(a=1, b=1)) as wanted:
        assert await wanted.change(2, a=1, b=2) == ["b1 ends", "b2 begins"]


async def test_what_is_not_wanted_any_more_ends() -> None:
    async with kept(Wanted(a=1, b=1)) as wanted:
        assert await wanted.change(1, b=1) == ["a1 ends"]


async def test_what_is_wanted_besides_begins() -> None:
    async with kept(Wanted(a=1)) as wanted:
        assert await wanted.change(1, a=1, c=1) == ["c1 begins"]


async def test_a_change_that_changes_nothing_disturbs_nobody() -> None:
    async with kept(Wanted(a=1)) as wanted:
        assert await wanted.change(0, a=1) == []
        assert await wanted.change(1, a=1, b=1) == ["b1 begins"]


async def test_a_fault_of_one_piece_ends_all() -> None:
    ended = asyncio.Event()

    async def fails() -> None:
        raise ValueError("no")

    async def goes_on() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async def wanted() -> Mapping[Hashable, Piece]:
        return {"one": (1, goes_on), "other": (1, fails)}

    with pytest.raises(ExceptionGroup, match="unhandled errors"):
        await keep_running(asyncio.Event(), wanted)
    assert ended.is_set()
