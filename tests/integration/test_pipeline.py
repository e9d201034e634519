"""The control plane on real servers: events go through outbox, relay and Kafka to whoever reads them."""

import asyncio
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from uuid import uuid4

import pytest

from mainstem.events.catalogue import decode
from mainstem.events.envelope import Event, Message, begin, follow
from mainstem.events.errors import Rejected
from mainstem.events.training import RunCompleted, RunFailed
from mainstem.runtime import Resources, ServiceSettings, consume, open_resources, restart_when, steadily
from mainstem.storage import Transaction
from mainstem.testkit.bus_contract import Reader
from mainstem.testkit.examples import example
from mainstem.testkit.waiting import running, until

pytestmark = pytest.mark.real

RUNS, PROJECTS = "evt.training.run", "evt.registry.project"


@pytest.fixture
async def resources(kafka: str, database_url: str, tmp_path: Path) -> AsyncIterator[Resources]:
    settings = ServiceSettings(kafka=kafka, database_url=database_url, artifacts=tmp_path, http_port=0)
    # A name of its own: consumer groups outlive the test.
    async with open_resources(f"trial_{uuid4().hex}", "mainstem.ingestion", settings) as resources:
        yield resources


class Seen:
    """A handler that answers every failed run with a completed one, and rejects what it is told to."""

    def __init__(self) -> None:
        self.runs: list[str] = []
        self.rejected: set[str] = set()

    async def __call__(self, tx: Transaction, event: Event) -> None:
        if not isinstance(event.fact, RunFailed):
            return
        if event.fact.run in self.rejected:
            await tx.append([answer(event)])
            raise Rejected(f"run {event.fact.run} is not wanted")
        await tx.append([answer(event)])
        tx.after_commit.append(lambda run=event.fact.run: self.runs.append(run))  # type: ignore[misc]


def failed(run: str) -> Event:
    return begin(example(RunFailed, run=run), command_id=run, source="/t", actor="a", recorded_us=0)


def answer(event: Event) -> Event:
    return follow(event.envelope, example(RunCompleted), source="/trial")


async def append(resources: Resources, *events: Event) -> None:
    async def work() -> None:
        async with resources.database.transaction() as tx:
            await tx.append(events)

    await steadily(work)


async def test_an_appended_event_reaches_a_consumer_and_so_does_its_answer(resources: Resources) -> None:
    run, seen, reader = uuid4().hex, Seen(), Reader()
    subscription = resources.bus.subscribe(f"reader-{run}", [RUNS], reader.positions)
    async with (
        running(resources.relay()),
        running(consume(resources, [RUNS], seen)),
        running(subscription.run(reader.on_batch)),
    ):
        await append(resources, failed(run))
        await until(lambda: run in seen.runs)
        wanted = answer(failed(run)).envelope.id
        await until(lambda: wanted in {decode(record).envelope.id for record in reader.records})
    assert seen.runs.count(run) == 1


async def test_poison_is_parked_and_its_neighbours_pass(resources: Resources) -> None:
    run, seen = uuid4().hex, Seen()
    poison = Message(RUNS, b"\x00", b"\x00\xff{", (("ce_id", b"\x00\xff"), ("ce_origin", b"\xff/x")), 0)
    async with running(consume(resources, [RUNS], seen)), running(resources.relay()):
        await resources.bus.publisher.publish([poison])
        await append(resources, failed(run))
        await until(lambda: run in seen.runs)
    assert await parked(resources) >= 1


async def test_a_rejected_event_is_parked_and_its_work_undone(resources: Resources) -> None:
    run, other, seen = uuid4().hex, uuid4().hex, Seen()
    seen.rejected.add(run)
    async with running(consume(resources, [RUNS], seen)), running(resources.relay()):
        await append(resources, failed(run), failed(other))
        await until(lambda: other in seen.runs)
    async with resources.database.transaction() as tx:
        assert await tx.find(answer(failed(run)).envelope.id) is None
        assert await tx.find(answer(failed(other)).envelope.id) is not None


async def parked(resources: Resources) -> int:
    async with resources.database.connection() as connection:
        return int(await connection.fetchval("select count(*) from parked"))


async def test_a_consumer_that_comes_back_handles_nothing_twice(resources: Resources) -> None:
    runs, seen = [uuid4().hex for _ in range(2)], Seen()
    for run in runs:
        async with running(consume(resources, [RUNS], seen)), running(resources.relay()):
            await append(resources, failed(run))
            await until(partial(seen.runs.__contains__, run))
    assert [run for run in seen.runs if run in runs] == runs


async def test_a_database_that_restarts_costs_nothing(resources: Resources) -> None:
    run, seen = uuid4().hex, Seen()
    async with running(consume(resources, [RUNS], seen)), running(resources.relay()):
        await append(resources, failed(uuid4().hex))
        await cut_connections(resources)
        await append(resources, failed(run))
        await until(lambda: run in seen.runs)
    assert seen.runs.count(run) == 1


async def cut_connections(resources: Resources) -> None:
    async with resources.database.connection() as connection:
        await connection.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity"
            " where datname = current_database() and pid <> pg_backend_pid()"
        )


async def test_work_is_begun_anew_each_time_what_it_stands_on_changes() -> None:
    changed, begun, ended = asyncio.Event(), 0, 0

    async def work() -> None:
        nonlocal begun, ended
        begun += 1
        try:
            await asyncio.Event().wait()
        finally:
            ended += 1

    async with running(restart_when(changed, work)):
        for number in range(1, 4):
            await until(partial(lambda wanted: begun == wanted, number))
            changed.set()
        await until(lambda: begun == 4)
    assert ended == 4
