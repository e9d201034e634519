"""The records behind one published value, found by reading the log again in the order of the journal."""

import struct
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import isnan
from typing import Any

from mainstem.bus.reader import LogReader
from mainstem.cli.recomputation import Published, check_beginnings, check_whole
from mainstem.events.data import RecordAccepted
from mainstem.events.envelope import named
from mainstem.events.errors import Rejected
from mainstem.events.features import RowComputed
from mainstem.events.instants import render
from mainstem.events.record import Record, header
from mainstem.feature_engine import CompiledSet
from mainstem.feature_engine.reference import Applied, Contribution, Reference
from mainstem.feature_engine.reference.wording import wording
from mainstem.features.history import History, Origin, placed
from mainstem.fold.ordered import Partition

_ACCEPTED = RecordAccepted.TYPE.encode()
_SHOWN = 5

#: Told how many records were just read.
Told = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class Trace:
    """A value as it was published, and as the log gives it again, with the records that it rests on."""

    spine: Applied
    row: str  #: where the row stands
    served: float | None
    recomputed: float | None
    records: list[Contribution]
    journalled: bool  #: whether the journal told the order; else it is the order of arrival

    @property
    def equal(self) -> bool:
        """Tell whether the two values have the same bits."""
        if self.served is None or self.recomputed is None:
            return self.served is self.recomputed
        return struct.pack("<d", self.served) == struct.pack("<d", self.recomputed)


class Sought:
    """The accepted record of a topic that is meant by an id, its own or its source's, or by the beginning of either.

    Its own goes before its source's, and a whole id before the beginning of one. What ingestion did not write is no
    such record, whatever it says.
    """

    def __init__(self, wanted: str, topic: str) -> None:
        self._wanted, self._topic, self._read = wanted, topic, 0
        #: The ids that fit so far and what of them does: the whole of one's own, that of the source, a beginning.
        self._own, self._caused, self._begun = dict[str, str](), dict[str, str](), dict[str, str]()

    def take(self, records: Sequence[Record]) -> bool:
        """Look through records; return whether nothing can fit better any more."""
        self._read += len(records)
        for event_id, cause in _ids(records):
            if event_id == self._wanted:
                self._own[event_id] = event_id
            elif cause == self._wanted:
                self._caused[event_id] = cause
            elif event_id.startswith(self._wanted) or cause.startswith(self._wanted):
                self._begun[event_id] = event_id if event_id.startswith(self._wanted) else cause
        return bool(self._own)

    def found(self) -> str:
        """Return the id of the record; raise Rejected when none or several fit."""
        found = self._own or self._caused or self._begun
        if len(found) == 1:
            return next(iter(found))
        if not found:
            looked = f"none of the {self._read} records of {self._topic} has an id that begins with {self._wanted!r}"
            show = f"`mainstem event tail {self._topic}` shows some"
            raise Rejected(f"{looked}, neither its own nor its source's; {show}")
        several = ", ".join(sorted(found.values())[:_SHOWN])
        many = f"{len(found)} records of {self._topic} have an id that begins with {self._wanted!r}"
        raise Rejected(f"{many}: {several}; give more")


class Tracer:
    """Traces values of one feature set."""

    def __init__(self, kafka: str, compiled: CompiledSet, told: Told) -> None:
        self._kafka = kafka
        self._compiled = compiled
        self._told = told

    @staticmethod
    def topics(compiled: CompiledSet) -> list[list[str]]:
        """Return what is read, one list after the other."""
        return [[f"evt.data.{compiled.spine}"], [RowComputed.topic_of(compiled.label)], History(compiled).topics]

    async def trace(self, wanted: str, feature: str) -> Trace:
        """Return what a value rests on.

        `wanted` is the id of the spine record, its own or the one that its source gave it, or the beginning of either.
        Raises Rejected when there is no such record, when there are several, when its row is not published yet, and
        when the log or the journal has lost what came before it.
        """
        spine_id = await self._resolve(wanted)
        row, served = await self._published(spine_id, feature)
        spec = self._compiled.spec
        features = spec["features"]
        assert isinstance(features, list)  # noqa: S101  # `CompiledSet.spec` promises it
        reference = Reference(spec | {"features": [one for one in features if one["name"] == feature]})
        spine, journalled = await self._replay(reference, spine_id)
        (recomputed,) = reference.row(spine)
        return Trace(spine, row, served, recomputed, reference.behind(spine, feature), journalled)

    async def _resolve(self, wanted: str) -> str:
        """Return the id of the accepted spine record that is meant."""
        topic = f"evt.data.{self._compiled.spine}"
        sought = Sought(wanted, topic)
        async with LogReader(self._kafka, [topic]) as reader:
            await reader.start()
            async for records in reader.to_end():
                self._told(len(records))
                if sought.take(records):
                    break
        return sought.found()

    async def _published(self, spine_id: str, feature: str) -> tuple[str, float | None]:
        """Return where the row of a spine record stands, and its value."""
        topic, others, unreadable = RowComputed.topic_of(self._compiled.label), set[str](), list[str]()
        async with LogReader(self._kafka, [topic]) as reader:
            await reader.start()
            async for records in reader.to_end():
                self._told(len(records))
                published = Published(self._compiled.id, len(self._compiled.names))
                published.take([one for one in records if header(one, "ce_causationid") == spine_id.encode()])
                others |= published.elsewhere
                unreadable += published.unreadable
                if published.spine_ids:
                    (partition, offset), values = published.places[0], published.values[0][0]
                    value = float(values[self._compiled.names.index(feature)])
                    return f"{topic}/{partition}/{offset}", None if isnan(value) else value
        hint = "; it has one by a set that had this label before" if others else ""
        hint += f"; {unreadable[0]} is called its row and cannot be read, fix its writer" if unreadable else ""
        missing = f"{spine_id} has no row of {self._compiled.label} yet ({self._compiled.id}){hint}"
        raise Rejected(f"{missing}; `mainstem feature list` shows how far the set is")

    async def _replay(self, reference: Reference, spine_id: str) -> tuple[Applied, bool]:
        """Apply what came before a spine record; return the record, and whether the journal told the order."""
        history, due = History(self._compiled), dict[Partition, int]()
        async with LogReader(self._kafka, history.topics) as reader:
            await reader.start()
            check_beginnings(await reader.begins())
            async for records in reader.to_end():
                check_whole(records, due)
                history.offer(records)
                self._told(len(records))
                if (found := _apply_until(reference, history.advance(), spine_id)) is not None:
                    return found, True
        found = _apply_until(reference, history.rest(), spine_id)
        if found is None:
            raise Rejected(f"{spine_id} has a row, but it is no accepted record of {self._compiled.spine} any more")
        return found, False


def document(trace: Trace, compiled: CompiledSet, feature: str) -> dict[str, Any]:
    """Return a trace as a document, its records in order of event time."""
    origin, times = _origin(trace.spine.place), set(_times(compiled, feature))
    return {
        "feature_set": compiled.label,
        "id": compiled.id,
        "feature": feature,
        "spine_id": origin.event_id,
        "source_record": f"{origin.topic}/{origin.partition}/{origin.offset}",
        "row": trace.row,
        "event_time": render(trace.spine.event_time_us),
        "arrival": render(origin.arrival_us),
        "position": origin.position,
        "order": "journal" if trace.journalled else "arrival",
        "served": trace.served,
        "recomputed": trace.recomputed,
        "equal": trace.equal,
        "records": [_record(one, times) for one in trace.records],
    }


def _record(one: Contribution, times: Collection[str]) -> dict[str, object]:
    origin = _origin(one.place)
    return {
        "in": one.of,
        "value": render(one.value) if one.of in times and isinstance(one.value, int) else one.value,
        "topic": origin.topic,
        "partition": origin.partition,
        "offset": origin.offset,
        "event_time": render(one.event_time_us),
        "arrival": render(origin.arrival_us),
        "position": origin.position,
    }


def _origin(place: object) -> Origin:
    """Return the place of a record that a `History` gave."""
    assert isinstance(place, Origin)  # noqa: S101  # it gives no other
    return place


def _apply_until(reference: Reference, records: list[Applied], spine_id: str) -> Applied | None:
    """Apply records up to the spine record of an id, and return that."""
    for record in records:
        if _origin(record.place).event_id == spine_id:
            return record
        reference.apply(record)
    return None


def _ids(records: Sequence[Record]) -> Iterator[tuple[str, str]]:
    """Yield of each accepted record its id, and the one by which its source knows it; what ingestion wrote alone."""
    for record in records:
        headers = named(record.headers)
        if headers.get("ce_type") == _ACCEPTED and placed(record, headers) is not None:
            yield headers["ce_id"].decode(), headers.get("ce_causationid", b"").decode(errors="replace")


def _times(compiled: CompiledSet, feature: str) -> Iterator[str]:
    """Yield, in words, the parts of a feature whose values are instants."""
    features, streams = compiled.spec["features"], _columns(compiled)
    assert isinstance(features, list)  # noqa: S101  # `CompiledSet.spec` promises it
    yield from _instants(next(one["value"] for one in features if one["name"] == feature), streams, compiled.spine)


def _columns(compiled: CompiledSet) -> Mapping[tuple[str, str], str]:
    return {(stream, name): kind.kind for stream, columns in compiled.streams.items() for name, kind in columns.items()}


def _instants(part: Any, columns: Mapping[tuple[str, str], str], stream: str) -> Iterator[str]:
    match part:
        case {"column": name} if columns[stream, name] == "time":
            yield wording(part)
        case {"aggregate": _, "stream": other, "value": {"column": name}} if columns[other, name] == "time":
            yield wording(part)
        case {"args": [*args]}:
            for arg in args:
                yield from _instants(arg, columns, stream)
        case {"local": _, "of": of}:
            yield from _instants(of, columns, stream)
        case _:
            pass
