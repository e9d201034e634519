"""Contracts change between two records, and never for a record that was published already."""

import asyncio

from mainstem.events.fence import Fence
from mainstem.events.record import header
from mainstem.ingestion.engine import Judge
from mainstem.ingestion.handlers import Intake, Succession
from mainstem.ingestion.ports import Progress
from mainstem.telemetry import Tracer
from mainstem.testkit.projects import orders
from mainstem.testkit.records import Log, Taken
from mainstem.testkit.waiting import running, until


class Kept:
    """Remembers what was saved."""

    def __init__(self) -> None:
        self.saved: list[Progress] = []

    async def save(self, progress: Progress) -> None:
        """Keep it."""
        self.saved.append(progress)

    def offsets(self) -> list[int]:
        return [position.next_offset for progress in self.saved for position in progress.positions.values()]


def intake(end: int = 0) -> Intake:
    return Intake({"src.orders": Judge(orders(), Tracer("test", None))}, Fence(), {}, {("src.orders", 0): end})


def record(offset: int) -> Taken:
    return Taken("src.orders", 0, offset, b'{"shop":"a","amount":1}', b"a")


async def test_closing_stores_what_was_published() -> None:
    log, store, judging = Log(), Kept(), intake()
    await judging.on_records([record(0), record(1)], publisher=log)
    await judging.close(store)
    assert store.offsets() == [2]


async def test_a_closed_intake_leaves_every_record_to_the_next_one() -> None:
    log, store, judging = Log(), Kept(), intake()
    await judging.close(store)
    await judging.on_records([record(0)], publisher=log)
    await judging.checkpoint(store)
    assert (log.records, store.saved) == ([], [])


async def test_what_an_earlier_process_may_have_published_is_judged_by_the_old_contract_first() -> None:
    log, store, judging = Log(), Kept(), intake(end=3)
    async with running(judging.close(store)) as closing:
        for offset in range(3):
            assert not closing.done()
            await judging.on_records([record(offset)], publisher=log)
        await until(closing.done)
        await judging.on_records([record(3)], publisher=log)
    assert ([header(r, "ce_origin") for r in log.records], store.offsets()) == (
        [b"src.orders/0/0", b"src.orders/0/1", b"src.orders/0/2"],
        [3],
    )


async def test_a_change_waits_for_the_intake_that_is_about_to_begin() -> None:
    store, succession, judging = Kept(), Succession(), intake()
    async with running(succession.end(store)) as ending:
        await asyncio.sleep(0)
        assert not ending.done()
        succession.begin(judging)
        await until(ending.done)
    log = Log()
    await judging.on_records([record(0)], publisher=log)
    assert log.records == []


async def test_a_change_while_nobody_judges_waits_for_nothing() -> None:
    succession = Succession()
    succession.begin(None)
    await succession.end(Kept())
    succession.hand_over()
    assert succession.changed.is_set()
