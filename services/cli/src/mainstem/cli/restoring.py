"""The platform from a copy of its log alone: into an empty broker and an empty database, services down (ADR 17)."""

from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from mainstem.audit.log import Log
from mainstem.audit.verification import read_note
from mainstem.bus.admin import topic_names
from mainstem.bus.restoring import Restoring
from mainstem.cli.archive import open_schema
from mainstem.cli.connection import setting
from mainstem.cli.copies import ARTIFACTS, needs
from mainstem.cli.folding import Folding, foldings
from mainstem.cli.local.errors import LocalError
from mainstem.cli.progress import bar
from mainstem.cli.replay import Archive, Copied, batches, digest, fold_all
from mainstem.events.catalogue import decode
from mainstem.events.errors import Rejected
from mainstem.events.fence import Partition, Position, read_origin
from mainstem.events.ids import content_id
from mainstem.events.ledger import CheckpointPublished
from mainstem.events.record import Record, header
from mainstem.events.registry import ProjectApplied, VersionRegistered
from mainstem.events.topics import TOPICS, ConcreteTopic, fixed, member
from mainstem.events.training import DatasetBuilt
from mainstem.ledger import verify_consistency
from mainstem.ledger.checkpoint import Checkpoint
from mainstem.ledger.keys import LogKey, Secret
from mainstem.ledger.note import NoteError
from mainstem.ledger_service.domain import Row, entries_of
from mainstem.ledger_service.folder import Folder
from mainstem.ledger_service.recovery import refill, republish, told_checkpoints
from mainstem.ledger_service.store import PostgresStore, Snapshot
from mainstem.project.definition import parse
from mainstem.registry.handlers import implied_topics
from mainstem.storage import Artifacts, Database, load_checkpoint

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


async def restore(folder: Path, since: Path | None) -> Restored:
    """Put everything back that follows from a copy of the log with its artifacts.

    `since` is a file with the last checkpoint that is known of; it is needed where the witness remembers none.
    Raises Rejected, with nothing written, when the copy lacks a model, was signed by another key, or ends before a
    checkpoint that is known of, or when broker or database are not empty; Damaged when an entry is not as it was
    archived. From the first that is written until all is done no service takes the database.
    """
    log, kafka, url = Log(folder), setting("MAINSTEM_KAFKA"), setting("MAINSTEM_DATABASE_URL")
    services, key = list(foldings()), _key(log)
    _require_newest(log, key, since)
    async with AsyncExitStack() as opened:
        schemas = {"ledger": "mainstem.ledger_service", **{each.service: each.package for each in services}}
        databases = {
            name: await opened.enter_async_context(open_schema(url, name, package)) for name, package in schemas.items()
        }
        await _require_empty(kafka, databases, services)
        checkpoints, named = await _read_ahead(Copied(log), key)
        artifacts = _restore_artifacts(folder, named)
        store = PostgresStore(databases["ledger"])
        await databases["ledger"].set_half_done(True)
        await _restore_archive(store, log, checkpoints)
        topics = await _restore_from_archive(store, kafka, databases, services)
        await republish(store, Folder(Path(setting("MAINSTEM_LOG")), key), log.note)
        await databases["ledger"].set_half_done(False)
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


def _require_newest(log: Log, key: LogKey, since: Path | None) -> None:
    """Raise Rejected when the log is known to have been longer, or to be another, or nobody would know."""
    known = [] if since is None else [(str(since), _known_since(since, key))]
    known += [("the witness", last) for last in _remembered(key)]
    if not known:
        raise Rejected(
            "the witness remembers nothing of this log, so nobody would notice if it went on from an old copy: bring "
            "its state back, or give with --since the last checkpoint that you know of, if need be that of the copy"
        )
    for who, last in known:
        if last.size > log.size:
            raise Rejected(
                f"{who} knows this log up to {last.size} entries, {log.folder} has {log.size}: it would go on as "
                "another history; take a newer copy"
            )
        if not _extends(log, last):
            raise Rejected(
                f"{who} knows another history of {last.size} entries than {log.folder}, or tiles of this are damaged: "
                f"`mainstem audit verify {log.folder}` with --since tells which"
            )


def _known_since(file: Path, key: LogKey) -> Checkpoint:
    """Return the checkpoint that somebody kept; raise Rejected when it is none of this log."""
    try:
        note = read_note(file)
        note.signed_by([key])
    except (OSError, NoteError) as fault:
        raise Rejected(f"{file} is no checkpoint of this log: {fault}") from fault
    return Checkpoint.parse(note.text)


def _remembered(key: LogKey) -> Iterator[Checkpoint]:
    """Yield what the witness remembers of a log; raise Rejected, naming the file, where it cannot be told."""
    try:
        state = Path(setting("MAINSTEM_WITNESS_STATE"))
    except LocalError:
        return  # the witness is elsewhere
    for file in sorted(state.glob("*.checkpoint")):
        try:
            note = read_note(file)
            last = Checkpoint.parse(note.text)
            if last.origin == key.name:  # others are of other logs
                note.signed_by([key])
                yield last
        except (OSError, NoteError) as fault:
            raise Rejected(
                f"{file}, which the witness remembers, is no checkpoint of {key.name}: {fault}; bring the file back as "
                "it was, since without it an old copy would pass for the newest"
            ) from fault


def _extends(log: Log, last: Checkpoint) -> bool:
    """Tell whether the tiles of a copy prove that its checkpoint extends one."""
    try:
        proof = log.tree().consistency(last.size, log.size)
    except (OSError, ValueError):
        return False
    return verify_consistency(last.size, last.root, log.size, log.checkpoint.root, proof)


async def _require_empty(kafka: str, databases: Mapping[str, Database], services: Sequence[Folding]) -> None:
    """Raise Rejected when there is anything that the restored would be mixed with."""
    there = await topic_names(kafka)
    found = [f"topic {name} at {kafka}" for name in there[:1]]
    tables = [("ledger", "block"), *((each.service, table) for each in services for table in each.tables)]
    for schema, table in [*tables, *((each.service, "event_log") for each in services)]:
        if (await digest(databases[schema], schema, table)).rows:
            found.append(f"table {schema}.{table}")
    if found:
        raise Rejected(
            f"there is {found[0]} already; restore into an empty broker and an empty database (what an interrupted "
            "restore left is removed with all data: the broker's, the database's and the published log)"
        )


def _restore_artifacts(folder: Path, named: Mapping[str, str]) -> int:
    """Put the artifacts of a copy into the store, and return how many there were.

    Raises Rejected for one whose bytes are not what its name says, and when one that is `named`, by address with who
    names it, is neither there nor in the store.
    """
    store = Artifacts(Path(setting("MAINSTEM_ARTIFACTS")))
    files = {f"sha256:{file.name}": file for file in (folder / ARTIFACTS).glob("??/*") if file.is_file()}
    for address, file in files.items():
        if content_id(file.read_bytes()) != address:
            raise Rejected(f"{file} was changed: its bytes are not those of its name; take another copy")
    for address, who in named.items():
        if address not in files and not store.has(address):
            raise Rejected(
                f"{folder} has no artifact {address}, which {who} needs: take a copy with `mainstem audit export "
                "--artifacts` where it is still there"
            )
    for file in files.values():
        store.put(file.read_bytes())
    return len(files)


async def _read_ahead(copied: Copied, key: LogKey) -> tuple[list[Row], dict[str, str]]:
    """Return the checkpoints that the log tells of, and the artifacts that it cannot be without, each with who."""
    topics, named = [CheckpointPublished.TOPIC, VersionRegistered.TOPIC, DatasetBuilt.TOPIC], dict[str, str]()
    entries: list[Record] = []
    async for some in copied.entries(topics, 0):
        entries += [placed.entry for placed in some]
    for record in entries:
        with suppress(Rejected):
            named |= needs(decode(record).fact)
    return told_checkpoints(entries, key), named


async def _restore_archive(store: PostgresStore, log: Log, checkpoints: Sequence[Row]) -> None:
    """Archive the entries of a copy in their order; raise Rejected when they are not the ones that were signed."""
    copied = Copied(log)

    async def entries() -> AsyncIterator[Sequence[Record]]:
        async for some in copied.entries(["*"], 0):
            yield [placed.entry for placed in some]

    with bar("archiving", log.size) as advance:
        async for count in refill(store, entries(), {row.size for row in checkpoints}):
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
    ends = (await load_checkpoint(databases["ledger"])).positions
    async with store.snapshot() as snapshot, Restoring(kafka) as broker:
        topics = await _topics(_Refilled(snapshot, "definitions"), ends)
        await _fill(broker, topics, snapshot)
        await _fold(snapshot, databases, services)
        await _recall_sent(_Refilled(snapshot, "sent events"), databases)
        for service in services:
            await _go_on_behind(service, databases[service.service], ends)
            await _recover(service, databases[service.service], _Refilled(snapshot, f"state of {service.service}"))
        await _pad(broker, databases["ingestion"])
        await broker.finish()
    return len(topics)


async def _fill(broker: Restoring, topics: Sequence[ConcreteTopic], snapshot: Snapshot) -> None:
    """Create the topics, and put every record where it stood."""
    await broker.create(topics)
    async for batch in batches(_Refilled(snapshot, "records").records(["*"])):
        await broker.write(batch)


async def _fold(snapshot: Snapshot, databases: Mapping[str, Database], services: Sequence[Folding]) -> None:
    """Fold the archive into every service's tables."""
    tree = (await snapshot.state()).frontier
    live = {service.service: databases[service.service] for service in services}
    await fold_all(Archive(snapshot, tree.size, tree.root().hex()), services, live)


async def _go_on_behind(service: Folding, database: Database, ends: Mapping[Partition, Position]) -> None:
    """Let a service go on behind what the platform's topics hold, but for those that it answers from the beginning."""
    answered = getattr(service.store, "ANSWERED", ())
    behind = {at: end for at, end in ends.items() if at[0] in _FIXED and at[0] not in answered}
    async with database.transaction() as tx:
        await tx.save_positions(behind)


async def _pad(broker: Restoring, ingestion: Database) -> None:
    """Let each source go on at the offset behind the last that was judged, also where the archive ends before it."""
    for place, position in (await load_checkpoint(ingestion)).positions.items():
        if place[0] not in _FIXED:
            await broker.pad(place, position.next_offset)


async def _topics(log: _Refilled, ends: Iterable[Partition]) -> list[ConcreteTopic]:
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
