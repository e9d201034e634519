"""A copy of the log and its artifacts are enough: from them the platform comes back, and goes on where it was."""

import asyncio
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from projects.flights.data import Events
from tests.fault.scenario import CHECKOUT, Outcome, Run

from mainstem.audit.copying import Choice, Copy
from mainstem.audit.log import Log
from mainstem.cli.archive import open_schema
from mainstem.cli.local.errors import CrashLoop
from mainstem.cli.local.home import Home
from mainstem.cli.local.platform import Platform
from mainstem.events.frames import Entry, unframe
from mainstem.events.serving import DeploymentActivated
from mainstem.ledger import Frontier
from mainstem.ledger.checkpoint import Checkpoint
from mainstem.ledger.keys import Secret
from mainstem.ledger.note import Note
from mainstem.ledger_service.domain import frames_of
from mainstem.ledger_service.store import PostgresStore

pytestmark = [pytest.mark.real, pytest.mark.fault]

CACHE = CHECKOUT / ".mainstem" / "cache"
#: After so many of the days everything is lost.
LOST_AFTER = 13
#: Where in what was played then copies were cut: `make fault` tries more than `make test` has the time for.
SHARES = (0.1, 0.4, 0.7) if "FAULT_KILLS" in os.environ else (0.1,)


@dataclass(frozen=True)
class Lost:
    """What is left of a platform: copies of its log, and its keys; and what it had."""

    outcome: Outcome
    standing: list[str]
    keys: Path
    copy: Path
    #: Those that end while the days after the promotion were worked off, by the share that was done.
    earlier: Mapping[float, Path]


async def mainstem(platform: Platform, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).parent / "mainstem"), *map(str, arguments)]
    env = {**os.environ, **platform.env, "COLUMNS": "400"}
    return await asyncio.to_thread(
        subprocess.run, command, env=env, capture_output=True, text=True, check=False, timeout=120
    )


async def done(platform: Platform, *arguments: object) -> None:
    found = await mainstem(platform, *arguments)
    assert found.returncode == 0, found.stdout + found.stderr


async def standing(platform: Platform) -> list[str]:
    """Return how far sources and feature topics were read, and what is remembered of each partition."""
    connection = await asyncpg.connect(platform.env["MAINSTEM_DATABASE_URL"])
    rows = [
        *await connection.fetch("select p::text from ingestion.position p where state is not null"),
        *await connection.fetch("select p::text from serving.position p where state is not null"),
    ]
    await connection.close()
    return sorted(row[0] for row in rows)


@pytest.fixture(scope="module")
async def lost(flights: Mapping[str, Events], tmp_path_factory: pytest.TempPathFactory) -> Lost:
    folder = tmp_path_factory.mktemp("lost")
    copy, root = folder / "copy", folder / "platform"
    earlier = {share: folder / f"earlier-{share}" for share in SHARES}
    async with Platform(root, fast=True, cache=CACHE) as platform:
        run = Run(platform, flights)
        await run.play(LOST_AFTER)
        outcome, stood = await run.settled(), await standing(platform)
        await done(platform, "audit", "export", copy, "--artifacts")
        for share, of_share in earlier.items():
            await _copy_in_mid_flight(platform, share, of_share)
            shutil.copytree(copy / "artifact", of_share / "artifact")
    shutil.copytree(Home.at(root).keys, folder / "keys")
    shutil.rmtree(root)
    return Lost(outcome, stood, folder / "keys", copy, earlier)


async def _copy_in_mid_flight(platform: Platform, share: float, folder: Path) -> None:
    """Copy the log as it was when such a share of what followed the promotion was archived."""
    url = platform.env["MAINSTEM_DATABASE_URL"]
    opened = open_schema(url, "ledger", "mainstem.ledger_service")
    async with opened as database, PostgresStore(database).snapshot() as archive:
        blocks = [block async for block in archive.blocks()]
        (begin,) = [block.first_leaf for block in blocks if block.topic == DeploymentActivated.TOPIC]
        end = (await archive.state()).frontier.size
        cut = min((block.first_leaf for block in blocks), key=lambda leaf: abs(leaf - begin - share * (end - begin)))
    blocks = [block for block in blocks if block.first_leaf < cut]
    tree = Frontier().append(b"".join(block.hashes for block in blocks))
    log, witness = (Secret.parse((platform.home.keys / f"{role}.secret").read_text()) for role in ("log", "witness"))
    text = Checkpoint(log.name, tree.size, tree.root()).text()
    copy = Copy(folder, Note(text, (log.sign(text), witness.cosign(text, 1_700_000_000))), Choice(range(cut)))
    for block in blocks:
        copy.take(block.topic, frames_of(block), block.hashes)
    copy.finish()


@asynccontextmanager
async def come_back(root: Path, keys: Path, copy: Path) -> AsyncIterator[Platform]:
    """Lend a platform that came back from a copy."""
    shutil.copytree(keys, Home.at(root).keys)
    async with Platform(root, fast=True, cache=CACHE, services=()) as platform:
        await done(platform, "audit", "restore", copy, "--since", copy / "checkpoint")
    async with Platform(root, fast=True, cache=CACHE) as platform:
        yield platform


async def test_what_comes_back_is_what_was_lost_and_goes_on_as_if_nothing_had_been(
    undisturbed: Outcome, lost: Lost, flights: Mapping[str, Events], tmp_path: Path
) -> None:
    async with come_back(tmp_path, lost.keys, lost.copy) as platform:
        run = Run(platform, flights)
        after = await run.settled(lost.outcome)
        assert after == lost.outcome
        await done(platform, "audit", "verify")
        await done(platform, "audit", "replay")
        await run.go_on(LOST_AFTER)
        found = await run.settled(undisturbed)
    assert found == undisturbed


@pytest.mark.parametrize("share", SHARES)
async def test_what_was_in_flight_is_done_when_its_sources_send_on(
    lost: Lost, flights: Mapping[str, Events], share: float, tmp_path: Path
) -> None:
    async with come_back(tmp_path, lost.keys, lost.earlier[share]) as platform:
        sent = await _send_on(platform, lost)
        assert sent > 1_000 or share > SHARES[0]
        run = Run(platform, flights)
        found = await run.settled(lost.outcome)
        await done(platform, "audit", "verify")
        await done(platform, "audit", "replay")
    assert found.tables == lost.outcome.tables
    ours = {topic for topic in lost.outcome.entries if not topic.startswith("src.")}
    assert {topic: found.entries[topic] for topic in ours} == {topic: lost.outcome.entries[topic] for topic in ours}
    assert {topic: found.ids[topic] for topic in ours} == {topic: lost.outcome.ids[topic] for topic in ours}


async def _send_on(platform: Platform, lost: Lost) -> int:
    """Send what the topics of the sources do not have, and return how many records that were."""
    kafka, sent = platform.env["MAINSTEM_KAFKA"], 0
    records = list(_of_sources(lost.copy))
    places = {TopicPartition(record.topic, record.partition) for record in records}
    async with AIOKafkaConsumer(bootstrap_servers=kafka) as consumer, AIOKafkaProducer(bootstrap_servers=kafka) as out:
        ends = await consumer.end_offsets(list(places))
        for record in records:
            if record.offset >= ends[TopicPartition(record.topic, record.partition)]:
                await out.send(record.topic, record.value, record.key, record.partition, headers=list(record.headers))
                sent += 1
    return sent


def _of_sources(copy: Path) -> Iterator[Entry]:
    log = Log(copy)
    for _, entry in log.entries():
        record = unframe(log.frame(entry))
        if record.topic.startswith("src."):
            yield record


async def refused(platform: Platform, why: str, *arguments: object) -> None:
    found = await mainstem(platform, "audit", "restore", *arguments)
    assert (found.returncode, why in " ".join(found.stderr.split())) == (1, True), found.stderr


def tiles_of(log: Path) -> dict[str, bytes]:
    """Return the tiles of hashes below a log by their paths."""
    files = (file for file in (log / "tile").rglob("*") if file.is_file() and "entries" not in file.parts)
    return {file.relative_to(log).as_posix(): file.read_bytes() for file in files}


async def test_what_cannot_be_put_back_is_refused_and_nothing_is_written(lost: Lost, tmp_path: Path) -> None:
    foreign, since = tmp_path / "foreign", ("--since", lost.copy / "checkpoint")
    for name in ("bare", "changed", "tiles"):
        shutil.copytree(lost.copy, tmp_path / name)
    shutil.rmtree(tmp_path / "bare" / "artifact")
    changed = next((tmp_path / "changed" / "artifact").glob("??/*"))
    changed.write_bytes(changed.read_bytes()[:-1])
    tiles = tiles_of(lost.copy)
    for path in (path for path in tiles if not path.startswith("tile/0/")):
        (tmp_path / "tiles" / path).write_bytes(bytes([tiles[path][0] ^ 1]) + tiles[path][1:])
    stray = tmp_path / "tiles" / "tile" / "0" / "000.p" / "5"
    stray.parent.mkdir()
    stray.symlink_to(lost.keys / "log.secret")
    async with Platform(foreign, fast=True, cache=CACHE, services=()) as platform:
        await refused(platform, "was not signed by the key of this platform", lost.copy)
    shutil.rmtree(Home.at(foreign).keys)
    shutil.copytree(lost.keys, Home.at(foreign).keys)
    async with Platform(foreign, fast=True, cache=CACHE, services=()) as platform:
        await refused(platform, "the witness remembers nothing of this log", lost.copy)
        await refused(platform, "it would go on as another history", lost.earlier[SHARES[0]], *since)
        await refused(platform, "has no artifact sha256:", tmp_path / "bare", *since)
        await refused(platform, "its bytes are not those of its name", tmp_path / "changed", *since)
        await done(platform, "audit", "restore", tmp_path / "tiles", *since)
        assert await standing(platform) == lost.standing
        assert tiles_of(Path(platform.env["MAINSTEM_LOG"])) == tiles  # no tile is taken from the copy
        await refused(platform, "already; restore into an empty broker and an empty database", lost.copy, *since)


async def test_an_interrupted_restore_is_taken_for_no_platform(lost: Lost, tmp_path: Path) -> None:
    shutil.copytree(lost.keys, Home.at(tmp_path).keys)
    since = "--since", str(lost.copy / "checkpoint")
    async with Platform(tmp_path, fast=True, cache=CACHE, services=()) as platform:
        command = [str(Path(sys.executable).parent / "mainstem"), "audit", "restore", str(lost.copy), *since]
        restoring = await asyncio.create_subprocess_exec(*command, env={**os.environ, **platform.env})
        await _until_archived(platform, 1_000)
        restoring.kill()
        await restoring.wait()
        await refused(platform, "is being restored, or that was interrupted", lost.copy, *since)
    with pytest.raises(CrashLoop, match="is being restored, or that was interrupted"):
        async with Platform(tmp_path, fast=True, cache=CACHE):
            pytest.fail("half a platform was started")


async def _until_archived(platform: Platform, entries: int) -> None:
    async with asyncio.timeout(60):
        connection = await asyncpg.connect(platform.env["MAINSTEM_DATABASE_URL"])
        while True:
            with suppress(asyncpg.UndefinedTableError):
                if (await connection.fetchval("select sum(count) from ledger.block") or 0) >= entries:
                    break
            await asyncio.sleep(0.02)
        await connection.close()
