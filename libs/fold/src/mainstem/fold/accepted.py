"""Accepted records as the engine takes them, and as the journal names them."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from operator import itemgetter

import msgspec
import numpy as np
import numpy.typing as npt

from mainstem.events.instant_columns import parse_all
from mainstem.events.record import Record
from mainstem.feature_engine import FIRST_INSTANT, LAST_INSTANT, Batch, CompiledSet
from mainstem.fold.journal import Run
from mainstem.fold.ordered import Item
from mainstem.project.contract import SourceContract
from mainstem.project.records import Columns, Decoder

Micros = npt.NDArray[np.int64]
#: Anything with the headers that say where it stands in the log of its source.
Placed = tuple[object, Mapping[str, bytes]]

#: What reading a record that ingestion never accepted may raise.
NOT_OURS = (KeyError, ValueError, RecursionError, msgspec.MsgspecError)


@dataclass(frozen=True, slots=True)
class Parked:
    """A record that could not be applied, and why."""

    record: Record
    reason: str
    #: Whether it is an accepted record that became known too late.
    late: bool = False


class _Accepted(msgspec.Struct):
    record: msgspec.Raw


class Reading:
    """Reads the accepted records of the sources of one feature set."""

    def __init__(self, compiled: CompiledSet, contracts: Mapping[str, SourceContract]) -> None:
        self.streams = list(compiled.streams)
        self._numbers = {f"evt.data.{name}": number for number, name in enumerate(self.streams)}
        self._decoders = {name: Decoder(contracts[name]) for name in self.streams}

    def batch(self, items: Sequence[Item], arrivals: Micros, reached: int) -> Batch:
        """Return the records as columns; raise one of NOT_OURS when one was never accepted.

        Where a live source was read behind the others its records arrive, for the fold, when they were read: arrivals
        are at least `reached`, and never fall.
        """
        payloads: dict[str, list[bytes]] = {name: [] for name in self.streams}
        stream = np.fromiter((self._numbers[record.topic] for record, _ in items), np.int8, len(items))
        for number, (record, headers) in zip(stream.tolist(), items, strict=True):
            payloads[self.streams[number]].append(payload(record.value, headers))
        columns = {name: self.columns(name, of) for name, of in payloads.items() if of}
        known = np.clip(arrivals, max(reached, FIRST_INSTANT), LAST_INSTANT)
        return Batch(stream, event_times(items), np.maximum.accumulate(known), columns)

    def columns(self, source: str, payloads: Sequence[bytes]) -> Columns:
        """Return the payloads of one source as columns; raise ValueError when one was never accepted."""
        return self._decoders[source].columns(payloads)


def payload(value: bytes | None, headers: Mapping[str, bytes]) -> bytes:
    """Return the source's own record within an accepted one; raise one of NOT_OURS when it is none."""
    if not (_ASKED_HEADERS.issubset(headers) and _ID.fullmatch(headers["ce_id"])):
        raise ValueError("its headers are not those of an accepted record")
    for name in _TEXTS:
        headers[name].decode()
    return _ACCEPTED.decode(value or b"").record


def event_times(items: Sequence[Item]) -> Micros:
    """Return when the records happened; raise ValueError when one does not say it."""
    times = parse_all([headers["ce_time"] for _, headers in items])
    if ((times < FIRST_INSTANT) | (times > LAST_INSTANT)).any():
        raise ValueError("its ce_time is no RFC 3339 instant of the years 1 to 9999")
    return times


def cut(items: Sequence[Placed], places: Sequence[int]) -> list[list[Run]]:
    """Return the order of `items` as runs, cut before the item numbers `places`."""
    edges = [0, *places, len(items)]
    return [runs(items[a:b]) for a, b in pairwise(edges)]


def runs(items: Sequence[Placed]) -> list[Run]:
    """Return runs of one source partition each, in the source's own numbers: a second delivery does not shift them."""
    found: list[Run] = []
    for stream, run in groupby(map(_origin, items), key=itemgetter(0)):
        numbers = [number for _, number in run]
        topic, _, partition = stream.rpartition("/")
        found.append((topic, int(partition), numbers[0], numbers[-1], len(numbers)))
    return found


_ACCEPTED = msgspec.json.Decoder(_Accepted)
_ASKED_HEADERS = frozenset(("ce_id", "ce_time", "ce_recordedtime", "ce_correlationid", "ce_origin"))
#: Those among them that stand in a row as they came; what else of them does is read, or tried by a pattern.
_TEXTS = ("ce_recordedtime", "ce_correlationid")
_ID = re.compile(rb"[\w-]{1,64}")


def _origin(item: Placed) -> tuple[str, int]:
    stream, _, number = item[1]["ce_origin"].decode().rpartition("/")
    return stream, int(number)
