"""Traces. A record whose source marked it sampled is followed through every service; the rest cost nothing.

Spans go to `<folder>/<service>.ndjson`, or `<service>-<part>.ndjson`, one a line, in OpenTelemetry's own JSON form.
Span names follow the messaging conventions: `process <topic>`.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from random import Random
from typing import Final, Protocol

#: What the W3C calls a valid traceparent of version 00; ids of zeros stand for none.
_TRACEPARENT = re.compile(rb"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
_SAMPLED = b"-01"
#: Draws what begins a trace, and ids; no secret.
_random: Final = Random()


class _Spans(Protocol):
    def add(self, traceparent: bytes | None, name: str, attributes: Mapping[str, str | int]) -> bytes: ...

    def close(self) -> None: ...


class _Unwritten:
    """Spans that nobody keeps: those that are below them need their ids all the same."""

    def add(self, traceparent: bytes | None, name: str, attributes: Mapping[str, str | int]) -> bytes:
        trace = b"%032x" % _random.randrange(1, 1 << 128) if traceparent is None else traceparent[3:35]
        return b"00-%b-%016x-01" % (trace, _random.randrange(1, 1 << 64))

    def close(self) -> None:
        pass


class Tracer:
    """Writes the spans of one process of a service; `part` tells it from others that write to the same folder."""

    def __init__(self, service: str, folder: Path | None, part: str | None = None, share: float = 0.0) -> None:
        """Write below a folder, or nowhere; of what comes without a trace this share begins one."""
        #: Of what comes without a trace this share begins one.
        self.share = share if folder is not None else 0.0
        self._spans: _Spans = _Unwritten()
        if folder is not None:
            from mainstem.telemetry.spans import Written  # noqa: PLC0415  (slow to import)

            self._spans = Written(service, folder / f"{service}{f'-{part}' if part else ''}.ndjson")

    def drawn(self) -> bool:
        """Tell whether what comes without a trace is to begin one: of so many the share that was set."""
        return _random.random() < self.share

    def begin(self, name: str, attributes: Mapping[str, str | int]) -> bytes:
        """Record the first span of a trace, and return the traceparent for what follows from it."""
        return self._spans.add(None, name, attributes)

    def step(self, traceparent: bytes | None, name: str, attributes: Mapping[str, str | int]) -> bytes | None:
        """Record a span below `traceparent` if it is sampled, and return the traceparent for what follows from it.

        One that is not well-formed is dropped: it came from outside, and no reader could follow it.
        """
        if traceparent is None or not _TRACEPARENT.fullmatch(traceparent):
            return None
        if not traceparent.endswith(_SAMPLED):
            return traceparent
        return self._spans.add(traceparent, name, attributes)

    def close(self) -> None:
        """Write out what is still in memory."""
        self._spans.close()
