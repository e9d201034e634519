"""Where things stand in a copy of the log: found once in one pass, and kept outside of the copy.

It is kept under the root and what the copy holds of it: a copy of all is another one than a copy of some topics.

Whoever handed over the copy did not make it: it is no part of what is verified. It is believed where an entry stands,
and not what it says.

<copy>.index/<root>-<held>/                      may be thrown away; it is made anew
<copy>.index/<root>-<held>/set-<id>/             the records of a feature set (`columns`)
<copy>.index/<root>-<held>/key-<source>-<column> the leaves of the accepted records of a source by what a column holds
"""

import json
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path
from tempfile import mkdtemp
from typing import Final

import msgspec
import numpy as np
import orjson
from numpy.typing import NDArray

from mainstem.audit.leaves import Leaves
from mainstem.audit.log import Log
from mainstem.cli.evidence.columns import Columns, Gathering, Ints
from mainstem.cli.progress import bar
from mainstem.events.data import RecordAccepted
from mainstem.events.errors import Rejected
from mainstem.events.frames import Damaged, Entry, unframe
from mainstem.feature_engine import CompiledSet
from mainstem.ledger.tiles import WIDTH
from mainstem.ledger_service.domain import Placed, id_key
from mainstem.project.records import UNREADABLE

Hashes = NDArray[np.uint64]

#: Changes with what an index holds, so that one of another release is not read.
_FORM: Final = 1

_BATCH: Final = 10_000
_DIGITS: Final = 16
_KEY_BYTES: Final = 8
_LAST: Final = 2**64 - 1


def beside(log: Log) -> Path:
    """Return the folder in which what was made of a copy is kept.

    Raises Rejected where it cannot be made.
    """
    folder = log.folder.resolve()
    of = f"{log.checkpoint.root.hex()[:_DIGITS]}-{log.held()[:_DIGITS]}"
    kept = folder.with_name(f"{folder.name}.index") / f"{of}.{_FORM}"
    try:
        kept.parent.mkdir(exist_ok=True)
    except OSError as fault:
        raise Rejected(f"{kept.parent} cannot be made: {fault}; copy the log to where you may write") from fault
    return kept


class Index:
    """Finds the entries of a copy by event id and by place. Made when it is not there yet.

    Every entry that it gives, and that it is made of, was held against the tree under the checkpoint.
    """

    def __init__(self, log: Log) -> None:
        self._log = log
        self._tree = Leaves(log)
        self._folder = beside(log)
        if not self._folder.exists():
            _whole(self._folder, self._build)
        self._ids: Hashes = np.load(self._folder / "ids.npy", mmap_mode="r")
        self._id_leaves: Ints = np.load(self._folder / "id-leaves.npy", mmap_mode="r")
        self._offsets: Ints = np.load(self._folder / "offsets.npy", mmap_mode="r")
        self._leaves: Ints = np.load(self._folder / "leaves.npy", mmap_mode="r")
        found = json.loads((self._folder / "partitions.json").read_text())
        #: Where the entries of a partition begin and end among `_offsets` and `_leaves`.
        self._partitions: dict[tuple[str, int], tuple[int, int]] = {
            (topic, partition): (start, end) for topic, partition, start, end in found
        }

    def with_id(self, prefix: bytes) -> list[int]:
        """Return the leaves of the entries whose `id_key` begins so, as far as its first eight bytes tell."""
        prefix = prefix[:_KEY_BYTES]
        low = int.from_bytes(prefix.ljust(_KEY_BYTES, b"\0"), "big")
        high = int.from_bytes(prefix.ljust(_KEY_BYTES, b"\xff"), "big")
        return _between(self._ids, self._id_leaves, low, high)

    def at(self, topic: str, partition: int, offset: int) -> int | None:
        """Return the leaf of the entry at a place; None when the copy has none there."""
        start, end = self._partitions.get((topic, partition), (0, 0))
        place = start + int(np.searchsorted(self._offsets[start:end], offset))
        return int(self._leaves[place]) if place < end and self._offsets[place] == offset else None

    def leaves(self, topics: Iterable[str]) -> Ints:
        """Return the leaves of topics (`prefix*` stands for a family), in order."""
        wanted = tuple(topics)
        chosen = [
            self._leaves[start:end] for (topic, _), (start, end) in self._partitions.items() if _among(topic, wanted)
        ]
        return np.sort(np.concatenate([np.empty(0, np.int64), *chosen]))

    def entries(self, leaves: Iterable[int]) -> Iterator[Placed]:
        """Yield the entries of leaves that rise; those that cannot be read are left out."""
        for leaf, data in self.raw(leaves):
            entry = _read(self._log, data)
            if entry is not None:
                yield Placed(leaf, entry)

    def raw(self, leaves: Iterable[int]) -> Iterator[tuple[int, bytes]]:
        """Yield the entries of leaves that rise as the log has them, but for those that were withheld.

        Raises Damaged for one that is not as it was archived.
        """
        number, bundle = -1, dict[int, bytes]()
        for leaf in leaves:
            if leaf // WIDTH != number:
                number = leaf // WIDTH
                bundle = dict(self._log.bundle(number))
            if leaf % WIDTH in bundle:
                self._tree.check(leaf, bundle[leaf % WIDTH])
                yield leaf, bundle[leaf % WIDTH]

    def columns(self, compiled: CompiledSet) -> Columns:
        """Return the records of a feature set. Raises Rejected when the copy does not hold what the journal says."""
        folder = self._folder / f"set-{compiled.id.removeprefix('sha256:')[:_DIGITS]}"
        if not folder.exists():
            gathering = Gathering(compiled)
            for batch in self._batches(gathering.topics, f"records of {compiled.label}"):
                gathering.take(batch)
            _whole(folder, gathering.finish().save)
        return Columns.load(folder, compiled)

    def keyed(self, source: str, column: str, value: object) -> list[Placed]:
        """Return the accepted records of a source whose column may hold a value: a few others may be among them."""
        folder = self._folder / f"key-{source}-{column}"
        if not folder.exists():
            _whole(folder, lambda into: self._gather_keys(source, column, into))
        keys, leaves = np.load(folder / "keys.npy", mmap_mode="r"), np.load(folder / "leaves.npy", mmap_mode="r")
        wanted = _hash(value)
        return list(self.entries(sorted(_between(keys, leaves, wanted, wanted))))

    def _gather_keys(self, source: str, column: str, into: Path) -> None:
        keys, leaves = list[int](), list[int]()
        topic = RecordAccepted.TOPIC.format(source=source)
        for batch in self._batches([topic], f"{source} by {column}"):
            for leaf, entry in batch:
                with suppress(*UNREADABLE):
                    keys.append(_hash(_RECORD.decode(entry.value or b"").record.get(column)))
                    leaves.append(leaf)
        _save_sorted(into, "keys", keys, "leaves", leaves)

    def _batches(self, topics: Sequence[str], what: str) -> Iterator[list[Placed]]:
        leaves = self.leaves(topics)
        with bar(f"indexing {what}", len(leaves)) as advance:
            for at in range(0, len(leaves), _BATCH):
                chosen = leaves[at : at + _BATCH].tolist()
                yield list(self.entries(chosen))
                advance(len(chosen))

    def _build(self, into: Path) -> None:
        ids, id_leaves = list[int](), list[int]()
        places: dict[tuple[str, int], tuple[list[int], list[int]]] = {}
        with bar("indexing", self._log.size) as advance:
            for number in self._log.bundles:
                bundle = self._log.bundle(number)
                for place, data in bundle.items():
                    leaf = number * WIDTH + place
                    self._tree.check(leaf, data)
                    entry = _read(self._log, data)
                    if entry is not None:
                        offsets, leaves = places.setdefault((entry.topic, entry.partition), ([], []))
                        offsets.append(entry.offset)
                        leaves.append(leaf)
                        event_id = next((value for name, value in entry.headers if name == "ce_id"), None)
                        if event_id:
                            ids.append(int.from_bytes(id_key(event_id)[:_KEY_BYTES], "big"))
                            id_leaves.append(leaf)
                advance(len(bundle))
        _save_sorted(into, "ids", ids, "id-leaves", id_leaves)
        _save_places(into, places)


class _Accepted(msgspec.Struct):
    record: dict[str, object]


_RECORD: Final = msgspec.json.Decoder(_Accepted)


def _read(log: Log, data: bytes | None) -> Entry | None:
    try:
        return None if data is None else unframe(log.frame(data))
    except Damaged:
        return None


def _among(topic: str, wanted: Sequence[str]) -> bool:
    return any(topic == one or (one.endswith("*") and topic.startswith(one[:-1])) for one in wanted)


def _between(keys: Hashes, leaves: Ints, low: int, high: int) -> list[int]:
    start = np.searchsorted(keys, np.uint64(low))
    end = np.searchsorted(keys, np.uint64(high), side="right")
    found: list[int] = leaves[start:end].tolist()
    return sorted(found)


def _hash(value: object) -> int:
    return int.from_bytes(blake2b(orjson.dumps(value), digest_size=_KEY_BYTES).digest(), "big")


def _save_sorted(into: Path, name: str, keys: Sequence[int], other: str, leaves: Sequence[int]) -> None:
    found = np.array(keys, np.uint64)
    order = np.argsort(found, kind="stable")
    np.save(into / f"{name}.npy", found[order])
    np.save(into / f"{other}.npy", np.array(leaves, np.int64)[order])


def _save_places(into: Path, places: dict[tuple[str, int], tuple[list[int], list[int]]]) -> None:
    partitions, start = [], 0
    for (topic, partition), (offsets, _) in places.items():
        partitions.append((topic, partition, start, start + len(offsets)))
        start += len(offsets)
    (into / "partitions.json").write_text(json.dumps(partitions))
    np.save(into / "offsets.npy", np.array([each for offsets, _ in places.values() for each in offsets], np.int64))
    np.save(into / "leaves.npy", np.array([each for _, leaves in places.values() for each in leaves], np.int64))


def _whole(folder: Path, fill: Callable[[Path], None]) -> None:
    """Make a folder that is there whole or not at all; raise Rejected where nothing can be written."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        unfinished = Path(mkdtemp(prefix="unfinished-", dir=folder.parent))
    except OSError as fault:
        raise Rejected(f"no index can be written to {folder.parent}: {fault}; copy the log to where you may") from fault
    try:
        fill(unfinished)
        with suppress(FileExistsError):  # another process was faster
            unfinished.rename(folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
