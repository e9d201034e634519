"""The four kinds of entries that a log is full of, read without an object for each: a batch at a time, into columns.

They say the same as the functions in `facts`; what is not needed for that is not decoded, and so not judged.
"""

from array import array
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final, NamedTuple, TypeVar

import msgspec
import numpy as np

from mainstem.events.data import RecordAccepted
from mainstem.events.features import RowComputed
from mainstem.events.frames import Entry
from mainstem.events.instant_columns import parse_all
from mainstem.events.instants import NEVER
from mainstem.events.serving import Predicted
from mainstem.lineage.columns import EdgeColumns, NodeColumns
from mainstem.lineage.facts import SOURCE_TOPICS
from mainstem.lineage.matching import Matching, placed
from mainstem.lineage.nodes import EVENT_PREFIX, PREFIXES, Kind, Relation, digest, node
from mainstem.project.records import UNREADABLE

T = TypeVar("T")

_RECORD: Final = PREFIXES[Kind.RECORD]
_ABSENT: Final = b""
#: From 1970, so that µs fit into 64 bits.
_FURTHEST_MS: Final = 2**53


class Placed(NamedTuple):
    """An entry at its leaf, with its headers by name."""

    leaf: int
    entry: Entry
    headers: Mapping[str, bytes | None]


class _Accepted(msgspec.Struct, gc=False):
    contract: str
    replaces: str | None = None


class _Row(msgspec.Struct, gc=False):
    definition: str
    spine_id: str


class _Answer(msgspec.Struct, gc=False):
    model: str
    version: int
    onnx: str
    feature_definition: str
    position: str
    row: str | None = None


_accepted_of = msgspec.json.Decoder(_Accepted).decode
_row_of = msgspec.json.Decoder(_Row).decode
_answer_of = msgspec.json.Decoder(_Answer).decode


class Streams:
    """Reads batches of one kind each into the columns of a builder."""

    def __init__(
        self,
        columns: tuple[NodeColumns, EdgeColumns],
        matching: Matching,
        topics: Mapping[str, int],
        names: dict[bytes, str],
    ) -> None:
        self._nodes, self._edges = columns
        self._matching = matching
        self._names = names
        self._keys: dict[tuple[Kind, str], bytes] = {}
        self._topics = topics
        #: By type of event; each returns what it could not read.
        self.readers: dict[bytes, Callable[[Sequence[Placed]], list[Placed]]] = {
            RecordAccepted.TYPE.encode(): self.accepted,
            RowComputed.TYPE.encode(): self.rows,
            Predicted.TYPE.encode(): self.predictions,
        }

    def records(self, first: Sequence[tuple[int, Entry]]) -> None:
        """Read records of source topics, whatever they hold."""
        keys = [digest(_RECORD + f"{e.topic}/{e.partition}/{e.offset}".encode()) for _, e in first]
        said = [_said(entry) for _, entry in first]
        recorded = _instants(said, [entry for _, entry in first])
        topics = [self._topics[entry.topic] for _, entry in first]
        self._nodes.extend(keys, Kind.RECORD, topics, [leaf for leaf, _ in first], recorded)

    def accepted(self, batch: Sequence[Placed]) -> list[Placed]:
        """Read accepted records."""
        found, payloads, unread = _decoded(batch, _accepted_of)
        keys, leaves = self._established(found, Kind.ACCEPTED), [one.leaf for one in found]
        contracts = [self._named(Kind.DEFINITION, payload.contract) for payload in payloads]
        self._edges.extend(contracts, keys, (Kind.DEFINITION, Kind.ACCEPTED), Relation.JUDGES, leaves)
        origins = [(_origin(one.headers), key, one.leaf) for one, key in zip(found, keys, strict=True)]
        self._link([(_RECORD + o, key, leaf) for o, key, leaf in origins if o], Kind.RECORD, Relation.ACCEPTED_AS)
        corrected = [
            (PREFIXES[Kind.QUARANTINED] + payload.replaces.encode(), key, leaf)
            for payload, key, leaf in zip(payloads, keys, leaves, strict=True)
            if payload.replaces
        ]
        self._link(corrected, Kind.QUARANTINED, Relation.CORRECTED_AS, Kind.ACCEPTED)
        return unread

    def rows(self, batch: Sequence[Placed]) -> list[Placed]:
        """Read rows of feature sets."""
        found, payloads, unread = _decoded(batch, _row_of)
        keys, leaves = self._established(found, Kind.ROW), [one.leaf for one in found]
        spines = [payload.spine_id.encode() for payload in payloads]
        sources = [digest(EVENT_PREFIX + spine) for spine in spines]
        self._edges.extend(sources, keys, (Kind.ACCEPTED, Kind.ROW), Relation.COMPUTED_INTO, leaves)
        definitions = [self._named(Kind.DEFINITION, payload.definition) for payload in payloads]
        self._edges.extend(definitions, keys, (Kind.DEFINITION, Kind.ROW), Relation.DEFINES, leaves)
        self._causes(found, keys, spines, Kind.ROW)
        return unread

    def predictions(self, batch: Sequence[Placed]) -> list[Placed]:
        """Read predictions."""
        found, answers, unread = _decoded(batch, _answer_of)
        keys, leaves = self._established(found, Kind.PREDICTION), [one.leaf for one in found]
        rows = [(answer.row or "").encode() for answer in answers]
        scored = [(EVENT_PREFIX + row, key, leaf) for row, key, leaf in zip(rows, keys, leaves, strict=True) if row]
        self._link(scored, Kind.ROW, Relation.SCORED_INTO, Kind.PREDICTION)
        versions = [self._named(Kind.VERSION, f"{answer.model}/{answer.version}") for answer in answers]
        self._edges.extend(versions, keys, (Kind.VERSION, Kind.PREDICTION), Relation.ANSWERED, leaves)
        files = [self._named(Kind.ARTIFACT, answer.onnx) for answer in answers]
        self._edges.extend(files, keys, (Kind.ARTIFACT, Kind.PREDICTION), Relation.ANSWERED, leaves)
        definitions = [self._named(Kind.DEFINITION, answer.feature_definition) for answer in answers]
        self._edges.extend(definitions, keys, (Kind.DEFINITION, Kind.PREDICTION), Relation.DEFINES, leaves)
        self._causes(found, keys, rows, Kind.PREDICTION)
        self._match(found, keys, answers)
        return unread

    def _match(self, found: Sequence[Placed], keys: Sequence[bytes], answers: Sequence[_Answer]) -> None:
        said, number = self._matching.predictions, self._matching.number
        said.keys += b"".join(keys)
        said.leaves.extend([one.leaf for one in found])
        said.answering.extend([number((answer.model, answer.version, answer.onnx)) for answer in answers])
        said.time_us.extend(parse_all([one.headers.get("ce_time") or _ABSENT for one in found]).tolist())
        said.recorded_us.extend(self._nodes.recorded_us[len(self._nodes.recorded_us) - len(found) :])
        places = [placed(answer.position if answer.row else None) for answer in answers]
        said.partitions.extend([partition for partition, _ in places])
        said.offsets.extend([offset for _, offset in places])

    def _named(self, kind: Kind, id_: str) -> bytes:
        """Return the key of a node of which there are few; note its name."""
        key = self._keys.get((kind, id_))
        if key is None:
            key = self._keys[kind, id_] = node(kind, id_)
            self._names[key] = id_
        return key

    def _established(self, found: Sequence[Placed], kind: Kind) -> list[bytes]:
        keys = [digest(EVENT_PREFIX + one.headers["ce_id"]) for one in found]  # type: ignore[operator]
        entries = [one.entry for one in found]
        recorded = _instants([one.headers.get("ce_recordedtime") for one in found], entries)
        topics = [self._topics[entry.topic] for entry in entries]
        self._nodes.extend(keys, kind, topics, [one.leaf for one in found], recorded)
        return keys

    def _link(
        self, links: Sequence[tuple[bytes, bytes, int]], kind: Kind, relation: Relation, target: Kind = Kind.ACCEPTED
    ) -> None:
        """Append edges from names, with their prefixes, to keys."""
        if links:
            sources = [digest(name) for name, _, _ in links]
            keys, leaves = [key for _, key, _ in links], [leaf for _, _, leaf in links]
            self._edges.extend(sources, keys, (kind, target), relation, leaves)

    def _causes(self, found: Sequence[Placed], keys: Sequence[bytes], named: Sequence[bytes], kind: Kind) -> None:
        """Append the causes that the payload does not name."""
        causes = [
            (EVENT_PREFIX + cause, key, one.leaf)
            for one, key, name in zip(found, keys, named, strict=True)
            if (cause := one.headers.get("ce_causationid")) and cause != name
        ]
        self._link(causes, Kind.EVENT, Relation.LED_TO, kind)


def _decoded(batch: Sequence[Placed], decode: Callable[[bytes], T]) -> tuple[list[Placed], list[T], list[Placed]]:
    """Return the entries that can be read, their payloads, and the others."""
    found, payloads, unread = [], [], []
    for one in batch:
        try:
            payload = decode(one.entry.value or _ABSENT)
        except UNREADABLE:
            unread.append(one)
            continue
        if one.headers.get("ce_id"):
            found.append(one)
            payloads.append(payload)
        else:
            unread.append(one)
    return found, payloads, unread


def taken_us(entry: Entry) -> int:
    """Return when the broker took an entry (µs since 1970), or the nearest instant that fits into 64 bits."""
    return max(-_FURTHEST_MS, min(entry.timestamp, _FURTHEST_MS)) * 1000


def _said(entry: Entry) -> bytes | None:
    """Return when a source says that it knew a record."""
    for name, value in entry.headers:
        if name == "ce_recordedtime":
            return value
    return None


def _instants(said: Sequence[bytes | None], entries: Sequence[Entry]) -> Iterable[int]:
    """Return when entries were recorded (µs): as they say it, else when the broker took them."""
    taken = np.fromiter(map(taken_us, entries), np.int64, len(entries))
    if any(said):
        found = parse_all([text or _ABSENT for text in said])
        taken = np.where(found == NEVER, taken, found)
    return array("q", taken.tobytes())


def _origin(headers: Mapping[str, bytes | None]) -> bytes:
    """Return the place of the source's record, or nothing."""
    origin = headers.get("ce_origin") or _ABSENT
    return origin if origin.startswith(SOURCE_TOPICS.encode()) and b"#" not in origin else _ABSENT
