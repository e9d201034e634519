"""The platform from a copy of its log alone: into an empty broker and an empty database, services down (ADR 17)."""

import shutil
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from mainstem.audit.log import CHECKPOINT, Log
from mainstem.bus.admin import topic_names
from mainstem.bus.restoring import Restoring
from mainstem.cli.archive import open_schema
from mainstem.cli.connection import setting
from mainstem.cli.copies import ARTIFACTS
from mainstem.cli.folding import Folding, foldings
from mainstem.cli.progress import bar
from mainstem.cli.replay import Archive, Copied, digest, fold_all
from mainstem.events.catalogue import Record, decode, header
from mainstem.events.errors import Rejected
from mainstem.events.fence import read_origin
from mainstem.events.ledger import CheckpointPublished
from mainstem.events.registry import ProjectApplied
from mainstem.events.topics import TOPICS, ConcreteTopic, fixed, member
from mainstem.ledger.keys import LogKey, Secret
from mainstem.ledger.note import NoteError
from mainstem.ledger_service.domain import entries_of
from mainstem.ledger_service.folder import Folder
from mainstem.ledger_service.recovery import refill, told_checkpoints
from mainstem.ledger_service.store import PostgresStore, Snapshot
from mainstem.project.definition import parse
from mainstem.registry.handlers import implied_topics
from mainstem.storage import Artifacts, Database, load_checkpoint
from mainstem.storage.files import replace_file

#: Entries that are put back at once, about.
_BATCH: Final = 10_000
#: The topics that there are before any project.
_FIXED: Final = [topic.name for topic in fixed()]


@dataclass(frozen=True, slots=True)
class Restored:
    """What was put back."""

    size: int
    root: str
    topics: int
    tables: int
    artifacts: int


class _Refilled:
    """The archive that was filled, as what something is put back from; with a bar that says what."""

    def __init__(self, snapshot: Snapshot, what: str) -> None:
        self._snapshot = snapshot
        self._what = what

    async def records(self, topics: Sequence[str]) -> AsyncIterator[Sequence[Record]]:
        """Yield a block at a time."""
        with bar(self._what, await self._snapshot.count(topics)) as advance:
            async for block in self._snapshot.blocks(topics):
                yield entries_of(block)
                advance(block.count)


async def restore(folder: Path) -> Restored:
    """Put everything back that follows from a copy of the log with its artifacts.

    Raises Rejected, with nothing written, when the copy lacks something or was signed by another key, or when broker,
    database or published log are not empty; Damaged when an entry is not as it was archived.
    """
    log, kafka, url = Log(folder), setting("MAINSTEM_KAFKA"), setting("MAINSTEM_DATABASE_URL")
    services = list(foldings())
    async with AsyncExitStack() as opened:
        schemas = {"ledger": "mainstem.ledger_service", **{each.service: each.package for each in services}}
        databases = {
            name: await opened.enter_async_context(open_schema(url, name, package)) for name, package in schemas.items()
        }
        key = _key(log)
        await _require_empty(kafka, databases, services)
        artifacts = _restore_artifacts(folder)
        store = PostgresStore(databases["ledger"])
        await _restore_archive(store, log, key)
        topics = await _restore_from_archive(store, kafka, databases, services)
    _publish(log)
    tables = sum(len(service.tables) for service in services)
    return Restored(log.size, log.checkpoint.root.hex(), topics, tables, artifacts)


def _key(log: Log) -> LogKey:
    """Return the public key of the log; raise Rejected when the copy is not signed by what this platform signs with."""
    key = Secret.parse(Path(setting("MAINSTEM_LOG_SECRET")).read_text()).log_key
    folder = Path(setting("MAINSTEM_LOG"))
    try:
        log.note.signed_by([key])
    except NoteError as fault:
        raise Rejected(
            f"{log.folder} was not signed by the key of this platform: {fault}; a log is gone on with by the key that "
            f"signed it: put it, and that of the witness, where this one is ({setting('MAINSTEM_LOG_SECRET')})"
        ) from fault
    if (there := Folder(folder, key).size()) > log.size:
        raise Rejected(f"{folder} was published up to {there} entries, {log.folder} has {log.size}: take a newer copy")
    return key


async def _require_empty(kafka: str, databases: Mapping[str, Database], services: Sequence[Folding]) -> None:
    """Raise Rejected when there is anything that the restored would be mixed with."""
    there = await topic_names(kafka)
    found = [f"topic {name} at {kafka}" for name in there[:1]]
    tables = [("ledger", "block"), *((each.service, table) for each in services for table in each.tables)]
    for schema, table in [*tables, *((each.service, "event_log") for each in services)]:
        if (await digest(databases[schema], schema, table)).rows:
            found.append(f"table {schema}.{table}")
    if found:
        raise Rejected(f"there is {found[0]} already; restore into an empty broker and an empty database")


def _restore_artifacts(folder: Path) -> int:
    """Put the artifacts of a copy into the store, and return how many there were."""
    source, store = folder / ARTIFACTS, Path(setting("MAINSTEM_ARTIFACTS"))
    files = [file for file in source.glob("??/*") if file.is_file()]
    if not files and not any(store.glob("??/*")):
        raise Rejected(f"{folder} has no artifacts: take a copy with `mainstem audit export --artifacts`")
    target = Artifacts(store)
    for file in files:
        target.put(file.read_bytes())
    return len(files)


async def _restore_archive(store: PostgresStore, log: Log, key: LogKey) -> None:
    """Archive the entries of a copy in their order; raise Rejected when they are not the ones that were signed."""
    copied = Copied(log)

    async def entries(topic: str) -> AsyncIterator[Sequence[Record]]:
        async for some in copied.entries([topic], 0):
            yield [placed.entry for placed in some]

    checkpoints = await told_checkpoints(entries(CheckpointPublished.TOPIC), key)
    with bar("archiving", log.size) as advance:
        async for count in refill(store, entries("*"), {row.size for row in checkpoints}):
            advance(count)
    await store.recall(checkpoints)
    found = (await store.state()).frontier
    if (found.size, found.root()) != (log.size, log.checkpoint.root):
        raise Rejected(
            f"the entries of {log.folder} make a tree of {found.size} with another root than the checkpoint has; run "
            f"`mainstem audit verify {log.folder}`, and begin anew with an empty database"
        )


async def _restore_from_archive(
    store: PostgresStore, kafka: str, databases: Mapping[str, Database], services: Sequence[Folding]
) -> int:
    """Put back what follows from the archive; return how many topics."""
    async with store.snapshot() as snapshot, Restoring(kafka) as broker:
        tree, ends = (await snapshot.state()).frontier, await load_checkpoint(databases["ledger"])
        topics = await _topics(_Refilled(snapshot, "definitions"), ends.positions)
        await broker.create(topics)
        async for batch in _batches(_Refilled(snapshot, "records").records(["*"])):
            await broker.write(batch)
        live = {service.service: databases[service.service] for service in services}
        await fold_all(Archive(snapshot, tree.size, tree.root().hex()), services, live)
        await _recall_sent(_Refilled(snapshot, "sent events"), databases)
        for service in services:
            answered = getattr(service.store, "ANSWERED", ())
            behind = {
                at: position for at, position in ends.positions.items() if at[0] in _FIXED and at[0] not in answered
            }
            async with live[service.service].transaction() as tx:
                await tx.save_positions(behind)
            await _recover(service, live[service.service], _Refilled(snapshot, f"state of {service.service}"))
        for place, position in (await load_checkpoint(live["ingestion"])).positions.items():
            if place[0] not in _FIXED:
                await broker.pad(place, position.next_offset)
        await broker.finish()
    return len(topics)


async def _topics(log: _Refilled, ends: Mapping[tuple[str, int], object]) -> list[ConcreteTopic]:
    """Return the topics that there were: the platform's, those of every definition, and others that have entries."""
    found = {topic.name: topic for topic in fixed()}
    async for records in log.records([ProjectApplied.TOPIC]):
        for record in records:
            with suppress(Rejected):  # what is no definition brought no topics
                fact = decode(record).fact
                if isinstance(fact, ProjectApplied):
                    found |= {topic.name: topic for topic in implied_topics(parse(fact.definition))}
    parts: dict[str, int] = {}
    for topic, part in ends:
        parts[topic] = max(parts.get(topic, 0), part + 1)
    for topic, count in sorted(parts.items()):
        if topic not in found or found[topic].partitions < count:
            found[topic] = _member(topic, count)
    return list(found.values())


def _member(name: str, partitions: int) -> ConcreteTopic:
    families = [topic.pattern for topic in TOPICS if "{" in topic.pattern]
    (pattern,) = [each for each in families if name.startswith(each[: each.index("{")])][:1]
    return member(pattern, name.removeprefix(pattern[: pattern.index("{")]), partitions)


async def _batches(parts: AsyncIterator[Sequence[Record]]) -> AsyncIterator[list[Record]]:
    batch: list[Record] = []
    async for part in parts:
        batch += part
        if len(batch) >= _BATCH:
            yield batch
            batch = []
    yield batch


async def _recall_sent(log: _Refilled, databases: Mapping[str, Database]) -> None:
    """Let each service know the events that its relay published."""
    sent: dict[str, list[Record]] = {name: [] for name in databases}
    async for records in log.records(_FIXED):
        for record in records:
            origin = read_origin(header(record, "ce_origin") or b"")
            if origin is not None:
                sent.get(origin[0].partition("@")[0], []).append(record)
    for name, database in databases.items():
        async with database.transaction() as tx:
            for record in sent[name]:
                await tx.recall(record)


async def _recover(service: Folding, database: Database, log: _Refilled) -> None:
    """Let a service store what else it had, if it has a way to."""
    name = f"{service.package}.recovery"
    if find_spec(name) is not None:
        await import_module(name).recover(database, log)


def _publish(log: Log) -> None:
    """Put the published log back: tiles, and then the checkpoint."""
    folder = Path(setting("MAINSTEM_LOG"))
    shutil.copytree(log.folder / "tile", folder / "tile", dirs_exist_ok=True, ignore=shutil.ignore_patterns("entries"))
    replace_file(folder / CHECKPOINT, (log.folder / CHECKPOINT).read_bytes())
