"""Sets whose sources announce nothing: the order is what was read, journalled before the rows, and followed again."""

import asyncio
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from services.features.tests.features_history import (
    PLACES,
    SILENT,
    STEPS,
    History,
    Kept,
    Process,
    Step,
    renamed,
    with_junk,
)
from typing_extensions import override

from mainstem.events.catalogue import decode
from mainstem.events.envelope import Message
from mainstem.events.errors import Unavailable
from mainstem.events.fence import Fence
from mainstem.features.ports import Partition, Progress
from mainstem.testkit.projects import shop
from mainstem.testkit.records import Log, Taken

ROWS, JOURNAL = "evt.feature.buying", "evt.feature.journal"
A_RECORD = SILENT[PLACES[0]][0]
#: What ingestion never wrote, between its records: what is no record, and good ones that say to come from elsewhere.
JUNK = (
    Taken(value=b"junk"),
    Taken(value=None, headers=(("ce_origin", b"src.else/0/99"),)),
    renamed(A_RECORD, ce_id=b"stray", ce_origin=None),
    renamed(A_RECORD, ce_id=b"stray", ce_origin=b"src.else/0/99"),
    renamed(A_RECORD, ce_id=b"stray", ce_origin=b"src.orders/9/99"),
    renamed(A_RECORD, ce_id=b"stray", ce_origin=b"src.orders/0/0_1"),
)


def live(history: History = SILENT) -> Process:
    """Return a process that computes over sources that announce nothing."""
    return Process(history, shop(replay=False))


async def to_the_end(process: Process) -> None:
    """Read all that is left, and store it."""
    await process.finish()
    await follow(process, len(process.journal()))
    await process.checkpoint()


async def follow(process: Process, entries: int) -> None:
    """Apply what was read, one entry of the journal after the other, and then what stands behind the last."""
    for _ in range(entries + 1):
        await process.take([])


def payloads(process: Process) -> dict[bytes, set[bytes | None]]:
    """Return what was published of each row; what stands twice in the log must not differ."""
    found: dict[bytes, set[bytes | None]] = {}
    for record in process.log.of(ROWS):
        found.setdefault(dict(record.headers)["ce_id"], set()).add(record.value)
    return found


def order(process: Process) -> list[tuple[str, int, int]]:
    """Return topic, partition and offset of what was journalled, in that order."""
    return [
        (entry.topics[topic], part, number)
        for entry in process.journal()
        for topic, part, first, last in entry.runs
        for number in range(first, last + 1)
    ]


async def test_live_sources_wait_for_one_another_only_until_they_are_read_to_their_end() -> None:
    process = live()
    await process.poll(PLACES[0], 2)
    assert process.log.records == []
    await process.finish()
    rows = [decode(record).fact for record in process.log.of(ROWS)]
    assert len(rows) == len(SILENT[PLACES[0]]) + len(SILENT[PLACES[1]])


async def test_rows_that_only_waited_are_stored_too() -> None:
    process = live()
    await process.poll(PLACES[0], 1)
    await process.checkpoint()
    for place in PLACES[1:]:
        await process.poll(place, 1_000)
    await process.finish()
    assert process.stored.state == process.fold.snapshot()


async def test_the_order_stands_in_the_log_before_the_rows() -> None:
    process = live()
    await process.finish()
    topics = [record.topic for record in process.log.records]
    assert topics.index(JOURNAL) < topics.index(ROWS)
    assert {entry.complete for entry in process.journal()} == {False}


Strewn = list[tuple[Partition, int, int]]
STREWN: st.SearchStrategy[Strewn] = st.lists(
    st.tuples(st.sampled_from(PLACES), st.integers(0, 12), st.sampled_from(range(len(JUNK)))), max_size=6
)


def strewn(junk: Strewn) -> History:
    """Return the history with junk in it."""
    history = SILENT
    for place, at, kind in junk:
        history = with_junk(history, place, at, JUNK[kind])
    return history


def strays(records: Sequence[Taken]) -> list[int]:
    """Return the offsets of what ingestion never wrote, but for second copies."""
    fresh, headers = Fence().admit(records)
    return [r.offset for r, of in zip(fresh, headers, strict=True) if of.get("ce_id", b"stray") == b"stray"]


@given(STEPS, STEPS, STREWN)
async def test_what_was_applied_is_applied_again_in_the_order_of_the_journal_and_junk_is_parked_once(
    before: list[Step], after: list[Step], junk: Strewn
) -> None:
    history = strewn(junk)
    process = live(history)
    await process.play([*before, "crash", *after])
    await to_the_end(process)
    assert all(len(found) == 1 for found in payloads(process).values())
    assert sorted(order(process)) == [(f"src.{p[0][9:]}", p[1], n) for p in PLACES for n in range(len(SILENT[p]))]
    assert process.stored.tallies == process.tallies()
    assert process.stored.journal == process.journal()
    parked = sorted((each.record.topic, each.record.partition, each.record.offset) for each in process.stored.parked)
    assert parked == [(*place, offset) for place in PLACES for offset in strays(history[place])]
    again = live(history)
    again.fold.follow(process.journal())
    for place in reversed(PLACES):
        await again.poll(place, 1_000)
    await follow(again, len(process.journal()))
    assert again.fold.snapshot() == process.fold.snapshot()


@pytest.mark.parametrize("junk", [*JUNK, renamed(A_RECORD, ce_id=b"stray", ce_origin=b"src.orders/1/99")])
@pytest.mark.parametrize(
    ("at", "read"), [(0, 3), (1, 3), (2, 2), (2, 3), (3, 2)], ids=["before", "inside", "behind", "at its end", "later"]
)
async def test_a_process_that_was_killed_goes_on_though_junk_stands_around_what_was_journalled(
    junk: Taken, at: int, read: int
) -> None:
    history = with_junk(SILENT, PLACES[0], at, junk)
    process = live({place: records[:read] for place, records in history.items()})
    await process.finish(Nowhere())
    killed = order(process)
    assert ("src.orders", 0, 1) in killed
    process.history = history
    await process.play(["crash"])
    await to_the_end(process)
    assert order(process)[: len(killed)] == killed
    assert [parked.record.offset for parked in process.stored.parked] == [at]
    assert all(len(found) == 1 for found in payloads(process).values())
    assert len(payloads(process)) == sum(len(SILENT[place]) for place in PLACES[:2])


async def test_a_set_that_follows_its_journal_reads_on_whatever_it_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mainstem.fold.ordered._HELD_ENOUGH", 1)
    process = live(SILENT)
    await process.finish(Nowhere())
    await process.play(["crash"])
    await process.poll(PLACES[-1], 1_000)
    assert process.fold.held > 0
    assert process.fold.ahead() == []


class Nowhere(Kept):
    """A store of a process that is killed before anything is stored."""

    @override
    async def save(self, progress: Progress) -> None:
        """Keep nothing."""


class Slow(Log):
    """A broker that takes what it was sent when it is told to, whoever still waits."""

    def __init__(self, before: Log) -> None:
        super().__init__()
        self.records = before.records
        self.sent, self.goes_on = asyncio.Event(), asyncio.Event()
        self._sending: set[asyncio.Task[None]] = set()

    @override
    async def publish(self, messages: Sequence[Message]) -> None:
        """Return when all of it was taken."""
        sending = asyncio.create_task(self._take(messages))
        self._sending.add(sending)
        self.sent.set()
        await asyncio.shield(sending)

    async def _take(self, messages: Sequence[Message]) -> None:
        await self.goes_on.wait()
        self.append(messages)


async def publishing_slowly(process: Process) -> tuple[Slow, asyncio.Task[None]]:
    """Return a broker that holds back what the process publishes, and the task that waits for it."""
    for place in PLACES[1:]:
        await process.poll(place, 1_000)
    process.log = broker = Slow(process.log)
    task = asyncio.create_task(process.poll(PLACES[0], 1_000))
    await broker.sent.wait()
    return broker, task


async def test_who_is_told_to_stop_ends_when_the_order_and_its_rows_are_in_the_log() -> None:
    process = live()
    broker, task = await publishing_slowly(process)
    task.cancel()
    await asyncio.wait([task], timeout=0)
    assert not task.done()
    broker.goes_on.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    orders = sum(len(SILENT[place]) for place in PLACES[:2])
    assert (len(order(process)), len(process.log.of(ROWS))) == (sum(map(len, SILENT.values())), orders)


async def test_who_takes_over_within_the_process_applies_what_was_on_its_way_in_that_order() -> None:
    process = live({**SILENT, PLACES[2]: []})
    broker, task = await publishing_slowly(process)
    task.cancel()
    asyncio.get_running_loop().call_later(0.02, broker.goes_on.set)
    await asyncio.wait([task])
    process.history = SILENT
    await process.play(["crash"])
    await to_the_end(process)
    assert all(len(found) == 1 for found in payloads(process).values())
    assert len({record.value for record in process.log.of(JOURNAL)}) == len(process.journal())


async def test_who_is_told_to_stop_and_hears_nothing_of_the_broker_ends_with_a_fault() -> None:
    process = Process(SILENT, shop(replay=False), patience_s=0.01)
    _, task = await publishing_slowly(process)
    task.cancel()
    with pytest.raises(Unavailable, match=r"did not acknowledge within 0\.01 s what was to be published last"):
        await task
