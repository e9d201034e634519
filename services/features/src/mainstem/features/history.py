"""The accepted records of a feature set, each at its place in the applied order, as log and journal tell it. Pure.

Nothing here is shared with the fold: it is for whoever evaluates values a second time, record by record.
"""

import json
import re
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, NamedTuple

import msgspec
from pydantic import ValidationError

from mainstem.events.data import ProgressReached
from mainstem.events.errors import NO_DOCUMENT, Rejected
from mainstem.events.features import OrderJournalled
from mainstem.events.fence import Fence, read_origin
from mainstem.events.instant_columns import parse_all
from mainstem.events.instants import NEVER
from mainstem.events.record import Record
from mainstem.feature_engine import FIRST_INSTANT, LAST_INSTANT, CompiledSet, Kind
from mainstem.feature_engine.reference import Applied

_PROGRESS = ProgressReached.TYPE.encode()
_ID = re.compile(rb"[\w-]{1,64}")
_TEXTS = ("ce_recordedtime", "ce_correlationid")
#: What a column holds in JSON; `None` besides.
_WIRE: Mapping[Kind, object] = {
    Kind.TIME: Annotated[datetime, msgspec.Meta(tz=True)] | None,
    Kind.FIXED: int | float | None,
    Kind.CATEGORY: str | None,
    Kind.BOOLEAN: bool | None,
}
_EPOCH, _TICK = datetime(1970, 1, 1, tzinfo=UTC), timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Origin:
    """Which record of which source it is: the `place` of what a `History` gives."""

    topic: str  #: of the source
    partition: int
    offset: int
    event_id: str  #: of the accepted record
    cause: str  #: the id by which the source knows the record, or where it stood if it had none
    arrival_us: int  #: when it counts as known: its recorded time, or that of a record applied before it if later
    position: int  #: in the applied order, from 0


@dataclass(frozen=True, slots=True)
class _Held:
    """A record that was read and not given yet; `arrival_us` is what its own partition says of it."""

    number: int
    record: Record
    headers: Mapping[str, bytes]
    time_us: int
    arrival_us: int


class Since(NamedTuple):
    """From where on a history is given: the entry of the journal, and how many records were applied before it."""

    entry: int = 0
    applied: int = 0


class History:
    """The records of a feature set in the order in which the service applied them.

    Promise: what `advance` gives, one call after another, is a function of the log alone, whatever the polls. It is
    what the journal of this very definition names, entry by entry, with the arrivals by which the service judged it.
    One that does not begin at the beginning is offered the journal from that entry on, and of each partition what the
    entry names and all behind it; the arrivals of its first entry may then lie before those of the service.
    """

    def __init__(self, compiled: CompiledSet, since: Since = Since()) -> None:  # noqa: B008  (it is frozen)
        self._definition = compiled.id
        self._columns = {
            name: {column: _WIRE[kind.kind] for column, kind in columns.items()}
            for name, columns in compiled.streams.items()
        }
        self._fence = Fence()
        self._floors: dict[tuple[str, int], int] = {}
        self._held: dict[str, deque[_Held]] = {}
        self._read_to: dict[str, int] = {}
        self._entries: deque[OrderJournalled] = deque()
        self._number = since.entry
        self._newest_us = FIRST_INSTANT
        #: Records given so far, those before its beginning among them.
        self.given = since.applied

    @property
    def topics(self) -> list[str]:
        """Return the topics to read, from their beginning."""
        return [*(f"evt.data.{name}" for name in self._columns), OrderJournalled.TOPIC]

    def offer(self, records: Sequence[Record]) -> None:
        """Take records of `topics`, each partition's in order; what ingestion did not write is left out.

        Raises Rejected when the journal has lost an entry.
        """
        fresh, headers = self._fence.admit(records)
        times = parse_all([found.get("ce_time", b"") for found in headers]).tolist()
        arrivals = parse_all([found.get("ce_recordedtime", b"") for found in headers]).tolist()
        for record, found, time_us, arrival_us in zip(fresh, headers, times, arrivals, strict=True):
            if record.topic == OrderJournalled.TOPIC:
                self._note(record)
            elif found.get("ce_type") == _PROGRESS:
                self._rise(record, announced(record) + 1)
            else:
                self._hold(record, found, time_us, self._rise(record, arrival_us))

    def advance(self) -> list[Applied]:
        """Return the records of the entries that are whole by now, in the applied order.

        Raises Rejected when an entry counts other records than the log holds.
        """
        given: list[Applied] = []
        while self._entries and self._is_whole(self._entries[0]):
            given += self._follow(self._entries.popleft())
        return given

    def rest(self) -> list[Applied]:
        """Return what was read and stands in no entry, in order of arrival; nothing may be offered after that.

        That is the order in which the service applies it, or will, if all its sources announce progress.
        """
        left = [held for queue in self._held.values() for held in queue]
        left.sort(key=lambda held: (held.arrival_us, held.record.topic, held.record.partition, held.record.offset))
        return list(self._give(left))

    def _note(self, record: Record) -> None:
        """Keep an entry if it is one of this definition."""
        if self._definition.encode() not in (record.value or b""):
            return
        try:
            entry = OrderJournalled.model_validate_json(record.value or b"")
        except ValidationError:
            return
        if entry.definition != self._definition:
            return
        if entry.number != self._number:
            missing = f"entry {self._number} of the journal of {entry.feature_set} is not in the log"
            raise Rejected(f"{missing}, {entry.number} is: the order is not known any more; look in the archive")
        self._number += 1
        self._entries.append(entry)

    def _rise(self, record: Record, arrival_us: int) -> int:
        """Return the arrival as its partition has it: never before an earlier one, nor before a marker was passed."""
        place = (record.topic, record.partition)
        self._floors[place] = max(arrival_us, self._floors.get(place, arrival_us))
        return self._floors[place]

    def _hold(self, record: Record, headers: Mapping[str, bytes], time_us: int, arrival_us: int) -> None:
        origin = placed(record, headers)
        if origin is None or not FIRST_INSTANT <= time_us <= LAST_INSTANT:
            return
        stream, number = origin
        self._held.setdefault(stream, deque()).append(_Held(number, record, headers, time_us, arrival_us))
        self._read_to[stream] = number

    def _is_whole(self, entry: OrderJournalled) -> bool:
        return all(last <= self._read_to.get(stream, -1) for stream, _, last in _runs(entry))

    def _follow(self, entry: OrderJournalled) -> Iterator[Applied]:
        for stream, first, last in _runs(entry):
            queue = self._held[stream]
            while queue and queue[0].number <= last:
                held = queue.popleft()
                if held.number >= first:
                    yield from self._give([held])
        if self.given != entry.applied:
            counted = f"entry {entry.number} of the journal of {entry.feature_set} counts {entry.applied} records"
            raise Rejected(f"{counted}, the log gives {self.given}: some are gone, or others were written between")

    def _give(self, held: Sequence[_Held]) -> Iterator[Applied]:
        for one in held:
            columns = self._columns_of(one.record)
            if columns is not None:
                yield self._applied(one, columns)

    def _columns_of(self, record: Record) -> dict[str, object] | None:
        """Return the columns that the set reads of an accepted record; None when it has no such ones."""
        fields = _fields(record)
        if fields is None:
            return None
        wanted = self._columns[record.topic.removeprefix("evt.data.")]
        try:
            return {name: _micros(msgspec.convert(fields.get(name), kind)) for name, kind in wanted.items()}
        except msgspec.ValidationError:
            return None

    def _applied(self, held: _Held, columns: Mapping[str, object]) -> Applied:
        self._newest_us = min(max(self._newest_us, held.arrival_us), LAST_INSTANT)
        source = held.record.topic.removeprefix("evt.data.")
        stream, headers = held.headers["ce_origin"].decode().rpartition("/")[0], held.headers
        topic, _, partition = stream.rpartition("/")
        event_id, cause = headers["ce_id"].decode(), headers.get("ce_causationid", b"").decode(errors="replace")
        place = Origin(topic, int(partition), held.number, event_id, cause, self._newest_us, self.given)
        self.given += 1
        return Applied(source, held.time_us, self._newest_us, columns, place)


def _runs(entry: OrderJournalled) -> Iterator[tuple[str, int, int]]:
    """Yield the runs of an entry: source and partition, first and last offset."""
    for topic, partition, first, last in entry.runs:
        yield f"{entry.topics[topic]}/{partition}", first, last


class _Until(msgspec.Struct):
    until: str


_UNTIL = msgspec.json.Decoder(_Until)


def announced(marker: Record) -> int:
    """Return the instant that a marker announces; NEVER when it announces none."""
    try:
        return int(parse_all([_UNTIL.decode(marker.value or b"").until.encode()])[0])
    except NO_DOCUMENT:
        return NEVER


def home(record: Record) -> str:
    """Return the stream whose records stand in the partition of an accepted record."""
    return f"src.{record.topic.removeprefix('evt.data.')}/{record.partition}"


def placed(record: Record, headers: Mapping[str, bytes]) -> tuple[str, int] | None:
    """Return where an accepted record stood in its source: `src.<source>/<partition>`, and its number there.

    None for a record that ingestion never put where it stands, or not under such headers.
    """
    origin = read_origin(headers.get("ce_origin", b""))
    if origin is None or origin[0] != home(record):
        return None
    if not (_ID.fullmatch(headers.get("ce_id", b"")) and headers.keys() >= set(_TEXTS)):
        return None
    try:
        _ = (record.key or b"").decode(), [headers[name].decode() for name in _TEXTS]
    except UnicodeDecodeError:
        return None
    return origin


def _fields(record: Record) -> Mapping[str, object] | None:
    """Return the source's own record in an accepted one; None when there is none."""
    try:
        found = json.loads(record.value or b"")["record"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _micros(value: Any) -> object:
    """Return an instant, which was rounded to the µs as contracts do, as µs since 1970; anything else as it is."""
    return (value - _EPOCH) // _TICK if isinstance(value, datetime) else value
