"""The evidence by itself: archiving durably, hashing, proving, and how long a decision waits for its receipt.

A process of its own, which prints its figures as JSON. PostgreSQL syncs here, as it does not for the other figures.
"""

import asyncio
import json
import os
import signal
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from statistics import median, quantiles
from tempfile import TemporaryDirectory
from typing import Any
from uuid import uuid4

from tests.bench.clock import OTHERS, OWN, RUNS, spend
from tests.bench.goals import Goal, Outcome
from tests.bench.stage import CHECKOUT

from mainstem.bus.kafka import KafkaBus
from mainstem.bus.reader import LogReader
from mainstem.cli.local import launcher
from mainstem.cli.local.home import Home
from mainstem.cli.local.platform import Platform
from mainstem.cli.local.postgres import Postgres
from mainstem.events.catalogue import encode
from mainstem.events.envelope import begin
from mainstem.events.frames import Entry
from mainstem.events.ledger import ReceiptIssued
from mainstem.events.registry import VersionApproved
from mainstem.events.topics import fixed
from mainstem.ledger import Frontier, Tree, leaf_hash, leaf_hashes, verify_inclusion
from mainstem.ledger_service.store import PostgresStore
from mainstem.storage import Database, open_database

#: Entries of a round of archiving, and of the tree that is hashed and proven.
ARCHIVED, HASHED = 20_000, 1_000_000
ENTRY_BYTES = 512
DECISIONS = 200
_CACHE = CHECKOUT / ".mainstem" / "cache"


def main() -> None:
    """Measure and print."""
    os.sched_setaffinity(0, OWN)
    print(json.dumps([outcome.document() for outcome in [*hashing(), *asyncio.run(on_servers())]]))


def hashing() -> list[Outcome]:
    """Hash a million entries and prove some of them."""
    entries = [bytes(ENTRY_BYTES - 4) + number.to_bytes(4, "big") for number in range(HASHED)]
    rooted = [spend(lambda: Frontier().append(leaf_hashes(entries)).root(), 1).cpu_us / 1e6 for _ in range(3)]
    hashes = leaf_hashes(entries)
    tree, places = Tree(hashes), Random(1).sample(range(HASHED), 1_000)
    root, paths = tree.root(), {place: tree.inclusion(place, HASHED) for place in places}

    def verify() -> None:
        for place, path in paths.items():
            assert verify_inclusion(leaf_hash(entries[place]), place, HASHED, path, root)

    verified = median(spend(verify, len(paths)).cpu_us for _ in range(RUNS))
    return [
        Outcome("hash and root of a million entries", "", median(rooted), "CPU s", Goal(8)),
        Outcome("proof of one of a million", "", max(len(path) * 32 for path in paths.values()), "B", Goal(704)),
        Outcome("verifying it", "", verified, "CPU µs", Goal(20)),
    ]


async def on_servers() -> list[Outcome]:
    """Archive on a PostgreSQL that syncs, and let a ledger and a witness run on it."""
    os.sched_setaffinity(0, OTHERS)
    with TemporaryDirectory() as folder:
        async with durable(Path(folder, "durable")) as url:
            os.environ["MAINSTEM_DATABASE_URL"] = url
            database = await open_database(url, "bench", "mainstem.ledger_service")
            os.sched_setaffinity(0, OWN)
            outcomes = [each for batch in (1_000, 100) for each in await archiving(database, batch)]
            await database.close()
            os.sched_setaffinity(0, {*OTHERS, *OWN})
            platform = Platform(Path(folder, "platform"), fast=True, services=["ledger"], cache=_CACHE)
            async with platform:
                return [*outcomes, *await deciding(platform.env["MAINSTEM_KAFKA"])]


@asynccontextmanager
async def durable(root: Path) -> AsyncIterator[str]:
    """Run a PostgreSQL that syncs every commit; return its address."""
    server = _server(root, await _free_port())
    program = server.program()
    assert program.prepare is not None
    await program.prepare()
    process = await asyncio.create_subprocess_exec(*program.argv, stderr=asyncio.subprocess.DEVNULL)
    try:
        async with asyncio.timeout(30):
            while not await program.probe():  # noqa: ASYNC110  (another process starts)
                await asyncio.sleep(0.1)
        yield server.url
    finally:
        process.send_signal(signal.SIGINT)
        await process.wait()


def _server(root: Path, port: int) -> Postgres:
    home = Home.at(root, _CACHE)
    home.create()
    return Postgres(home, launcher.choose(home), port)


async def _free_port() -> int:
    server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
    port = int(server.sockets[0].getsockname()[1])
    server.close()
    await server.wait_closed()
    return port


async def archiving(database: Database, batch: int) -> list[Outcome]:
    """Archive in batches of a size, in turn with a bare COPY of the same records, a commit a batch in both."""
    store, first = PostgresStore(database), 0
    async with database.connection() as connection:
        await connection.execute(
            "create table if not exists bare(topic text, part int, place bigint, at bigint, key bytea, value bytea,"
            " headers bytea)"
        )
    ours, theirs = list[float](), list[float]()
    for number in range(RUNS + 1):
        entries = [_entry(first + place) for place in range(ARCHIVED)]
        batches = [entries[at : at + batch] for at in range(0, ARCHIVED, batch)]
        first += ARCHIVED
        taken = [await _timed(batches, store.archive), await _timed(batches, lambda some: _copy(database, some))]
        if number:  # the first warms up
            ours.append(taken[0] / ARCHIVED)
            theirs.append(taken[1] / ARCHIVED)
    rate, goal = 1 / median(ours), {1_000: 50_000, 100: 15_000}[batch]
    share = median(bare / own for own, bare in zip(ours, theirs, strict=True))
    what = f"archiving durably in batches of {batch:,}"
    return [
        Outcome(what, "", rate, "entries/s", Goal(goal, at_least=True)),
        Outcome(what, "a bare COPY of the same", share, "times as fast", Goal(0.5, at_least=True)),
    ]


def _entry(number: int) -> Entry:
    headers = tuple((f"ce_{name}", b"%032d" % number) for name in ("id", "type", "causationid", "correlationid"))
    value = b'{"level": %d, "note": "%s"}' % (number, b"x" * 200)
    return Entry("src.bench", number % 2, number // 2, number, b"key", value, headers)


async def _copy(database: Database, entries: Sequence[Entry]) -> None:
    rows = [
        (*entry[:6], b"".join(name.encode() + (value or b"") for name, value in entry.headers)) for entry in entries
    ]
    async with database.transaction() as tx:
        await tx.connection.copy_records_to_table("bare", records=rows)


async def _timed(batches: Sequence[Sequence[Entry]], take: Callable[[Sequence[Entry]], Any]) -> float:
    begun = time.perf_counter()
    for batch in batches:
        await take(batch)
    return time.perf_counter() - begun


async def deciding(kafka: str) -> list[Outcome]:
    """Publish decisions at random moments; measure how long each waits for its receipt."""
    waited: dict[str, float] = {}
    sent: dict[str, float] = {}
    async with KafkaBus(kafka, "bench") as bus, LogReader(kafka, [ReceiptIssued.TOPIC]) as reader:
        await bus.create(fixed())
        await reader.start()

        async def listen() -> None:
            while len(waited) < DECISIONS:
                for record in await reader.poll():
                    event_id = json.loads(record.value or b"")["event_id"]
                    waited[event_id] = time.perf_counter() - sent[event_id]

        random = Random(2)
        async with asyncio.timeout(DECISIONS * 2), asyncio.TaskGroup() as group:
            group.create_task(listen())
            for number in range(DECISIONS):
                await asyncio.sleep(random.uniform(0.0, 0.4))
                fact = VersionApproved(model="m", version=number + 1, onnx="sha256:00", approved_by="ann")
                event = begin(
                    fact, command_id=uuid4().hex, source="/bench", actor="ann", recorded_us=time.time_ns() // 1_000
                )
                sent[event.envelope.id] = time.perf_counter()
                await bus.publisher.publish([encode(event)])
    steps = quantiles(waited.values(), n=100)
    return [
        Outcome("a decision waits for its cosigned checkpoint", "", steps[49], "s, half of them", Goal(1.0)),
        Outcome("a decision waits for its cosigned checkpoint", "", steps[98], "s, 99 of 100", Goal(2.0)),
    ]


if __name__ == "__main__":
    main()
