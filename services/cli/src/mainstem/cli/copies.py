"""Copies of the log: made from the archive, then verified and asked without it (ADR 14)."""

import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from mainstem.audit.copying import Choice, Copied, Copy
from mainstem.audit.entries import name_of
from mainstem.audit.log import Log
from mainstem.audit.verification import Keys, Report, Verification, read_note
from mainstem.cli.archive import open_archive
from mainstem.cli.connection import setting
from mainstem.cli.progress import bar
from mainstem.events.catalogue import decode
from mainstem.events.errors import Rejected
from mainstem.events.fact import Fact
from mainstem.events.frames import Damaged, unframe
from mainstem.events.record import header
from mainstem.events.registry import VersionRegistered
from mainstem.events.training import DatasetBuilt
from mainstem.ledger import leaf_hash, verify_inclusion
from mainstem.ledger.entry import stands_for
from mainstem.ledger.note import NoteError
from mainstem.ledger.receipt import Receipt
from mainstem.ledger_service.domain import frames_of
from mainstem.storage.artifacts import ArtifactMissing, Artifacts

#: Where a copy has artifacts.
ARTIFACTS: Final = "artifact"

_ADDRESS: Final = re.compile(rb"sha256:[0-9a-f]{64}")
#: Topics of so many entries that name no artifacts but those that others name too.
NAME_NONE: Final = ("src.", "evt.data.", "evt.feature.", "tel.prediction.")


@dataclass(frozen=True, slots=True)
class Exported:
    """What a copy has."""

    size: int
    root: str
    copied: Copied
    artifacts: int


async def export(folder: Path, choice: Choice, *, artifacts: bool) -> Exported:
    """Copy the log at its newest checkpoint, from the archive.

    Raises Rejected when there is no checkpoint yet, or the folder is not empty or cannot be written, and at the end
    when artifacts were wanted and one is gone that a version or a dataset cannot be without; Damaged for a changed
    archive.
    """
    if not choice.leaves:
        raise Rejected(
            f"there are no leaves from {choice.leaves.start} to {choice.leaves.stop}; give the lower one first"
        )
    named, needed = set[bytes](), dict[str, str]()
    async with open_archive() as store, store.snapshot() as archive:
        note = await archive.checkpoint()
        if note is None:
            raise Rejected("the log has no checkpoint yet; wait until the ledger and the witness run")
        copy = Copy(folder, note, choice)
        with bar("exporting", copy.checkpoint.size) as advance:
            async for block in archive.blocks():
                if copy.size == copy.checkpoint.size:
                    break
                frames = frames_of(block)
                copy.take(block.topic, frames, block.hashes)
                if artifacts and choice.has_topic(block.topic):
                    named.update(addresses(block.topic, frames))
                    needed |= required(block.topic, frames)
                advance(block.count)
        copied = copy.finish()
    count = _copy_artifacts(named, folder / ARTIFACTS) if artifacts else 0
    for address, who in needed.items():
        if not Artifacts(folder / ARTIFACTS).has(address):
            raise Rejected(
                f"{folder} has every entry but lacks {address}, which {who} cannot be without: it is not below "
                f"{setting('MAINSTEM_ARTIFACTS')}; put it back and export into another folder"
            )
    return Exported(copy.checkpoint.size, copy.checkpoint.root.hex(), copied, count)


def addresses(topic: str, frames: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the content addresses that entries of a topic name."""
    if not topic.startswith(NAME_NONE):
        for frame in frames:
            yield from _ADDRESS.findall(frame)


def required(topic: str, frames: Iterable[bytes]) -> dict[str, str]:
    """Return the artifacts that versions and datasets of a topic cannot be without, each with who needs it."""
    found = dict[str, str]()
    if topic in (VersionRegistered.TOPIC, DatasetBuilt.TOPIC):
        for data in frames:
            with suppress(Rejected, Damaged):
                found |= needs(decode(unframe(data)).fact)
    return found


def needs(fact: Fact) -> dict[str, str]:
    """Return the artifacts that a fact cannot be without, each with who needs it."""
    match fact:
        case VersionRegistered():
            return dict.fromkeys((fact.onnx, fact.profile), f"{fact.model} version {fact.version}")
        case DatasetBuilt():
            return dict.fromkeys((fact.dataset, fact.table), f"the dataset of {fact.model} as of {fact.cut}")
        case _:
            return {}


def _copy_artifacts(named: set[bytes], folder: Path) -> int:
    """Copy the artifacts that are named, and those that they name; what has no bytes in the store is no artifact."""
    source, target = Artifacts(Path(setting("MAINSTEM_ARTIFACTS"))), Artifacts(folder)
    waiting, done = sorted(named), set[bytes]()
    count = 0
    while waiting:
        address = waiting.pop()
        if address in done:
            continue
        done.add(address)
        with suppress(ArtifactMissing):
            content = source.get(address.decode())
            target.put(content)
            count += 1
            if content[:1] == b"{":  # a document; tables and models name nothing
                waiting += sorted(set(_ADDRESS.findall(content)) - done)
    return count


def verify(folder: Path, keys: Keys, since: Path | None, *, part: bool) -> Report:
    """Verify a copy. `since` is a file with a checkpoint that the auditor kept. Raises Rejected for what is none."""
    log = Log(folder)
    try:
        kept = None if since is None else read_note(since)
    except (OSError, NoteError) as fault:
        raise Rejected(f"{since} is no checkpoint: {fault}; give the file `checkpoint` of an earlier copy") from fault
    with bar("verifying", log.size) as advance:
        return Verification(log, keys, part=part).run(kept, advance)


@dataclass(frozen=True, slots=True)
class Proven:
    """An entry and what proves it."""

    leaf: int
    name: str
    receipt: Receipt


def prove(folder: Path, wanted: str) -> Proven:
    """Return the receipt of an entry, by its leaf or by its event id; of several the first.

    Raises Rejected when the copy has no such entry.
    """
    log = Log(folder)
    leaf = int(wanted) if wanted.isdecimal() and len(wanted) < 20 else _leaf_of(log, wanted)
    entry = log.entry(leaf)
    try:
        path = log.tree().inclusion(leaf, log.size)
    except (OSError, ValueError) as fault:
        raise Rejected(f"the path of leaf {leaf} cannot be made: {fault}; run `mainstem audit verify` on it") from fault
    if not verify_inclusion(leaf_hash(entry), leaf, log.size, path, log.checkpoint.root):
        raise Rejected(f"leaf {leaf} does not lead to the root of the checkpoint; run `mainstem audit verify` on it")
    return Proven(leaf, name_of(leaf, log.frame(entry)), Receipt(leaf, tuple(path), log.note))


def _leaf_of(log: Log, event_id: str) -> int:
    sought = event_id.encode()
    with bar("searching", log.size) as advance:
        for leaf, entry in log.entries():
            advance(1)
            if sought in entry or stands_for(entry) is not None:
                with suppress(Damaged):
                    if header(unframe(log.frame(entry)), "ce_id") == sought:
                        return leaf
    raise Rejected(f"no entry below {log.folder} has the event id {event_id!r}; give the whole id, or a leaf")
