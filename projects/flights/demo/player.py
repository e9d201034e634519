"""The source system: plays the events of the year in the order in which they became known."""

from collections.abc import Mapping
from zlib import crc32

import numpy as np
import numpy.typing as npt
from projects.flights.data import Events

from mainstem.bus import Publisher
from mainstem.events.envelope import Headers, Message
from mainstem.events.instants import render

#: One record in so many is traced through all services.
TRACED_ONE_IN = 5_000

_SPEC = ("ce_specversion", b"1.0")
_PROGRESS = b"mainstem.data.progress.v1"


class Player:
    """Publishes to `src.<source>` as any source system would: CloudEvents in binary mode, and its progress."""

    def __init__(self, publisher: Publisher, events: Mapping[str, Events], partitions: Mapping[str, int]) -> None:
        self._publisher = publisher
        self._events = events
        self._partitions = partitions
        self.sent = dict.fromkeys(events, 0)

    async def play(self, start_us: int, end_us: int) -> int:
        """Publish all events that became known from `start_us` and before `end_us`, then announce that they are out.

        Returns how many there were, when the log has them all.
        """
        messages = [message for name in self._events for message in self._stretch(name, start_us, end_us)]
        await self._publisher.publish(messages)
        await self._publisher.publish([marker for name in self._events for marker in self._markers(name, end_us - 1)])
        return len(messages)

    def _stretch(self, name: str, start_us: int, end_us: int) -> list[Message]:
        events = self._events[name]
        first, last = np.searchsorted(events.arrival_us, [start_us, end_us]).tolist()
        times, known = _texts(events.event_time_us[first:last]), _texts(events.arrival_us[first:last])
        topic, count, kind = f"src.{name}", self._partitions[name], name.encode()
        self.sent[name] += last - first
        return [
            Message(
                topic,
                events.keys[row],
                events.payloads[row],
                _headers(events.ids[row], kind, times[row - first], known[row - first]),
                crc32(events.keys[row]) % count,
            )
            for row in range(first, last)
        ]

    def _markers(self, name: str, until_us: int) -> list[Message]:
        until = render(until_us)
        value = f'{{"until":"{until}"}}'.encode()
        headers = (_SPEC, ("ce_id", f"progress-{until}".encode()), ("ce_type", _PROGRESS), ("ce_source", b"/player"))
        return [Message(f"src.{name}", b"progress", value, headers, part) for part in range(self._partitions[name])]


def _headers(record_id: str, kind: bytes, time: bytes, known: bytes) -> Headers:
    identity = record_id.encode()
    headers = (
        _SPEC,
        ("ce_id", identity),
        ("ce_type", kind),
        ("ce_source", b"/player"),
        ("ce_time", time),
        ("ce_recordedtime", known),
    )
    digest = crc32(identity)
    if digest % TRACED_ONE_IN:
        return headers
    return (*headers, ("traceparent", f"00-{digest:032x}-{digest | 1:016x}-01".encode()))


def _texts(instants_us: npt.NDArray[np.int64]) -> list[bytes]:
    texts = np.datetime_as_string(instants_us.astype("datetime64[us]"), unit="us").tolist()
    return [f"{text}Z".encode() for text in texts]
