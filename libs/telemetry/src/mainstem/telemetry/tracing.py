"""Traces. A record whose source marked it sampled is followed through every service; the rest cost nothing.

Spans go to `<folder>/<service>.ndjson`, or `<service>-<part>.ndjson`, one a line, in OpenTelemetry's own JSON form.
Span names follow the messaging conventions: `process <topic>`.
"""

import re
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from random import Random
from typing import Final

from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, ParentBased
from opentelemetry.trace import SpanKind
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

_PROPAGATOR = TraceContextTextMapPropagator()
#: What the W3C calls a valid traceparent of version 00; ids of zeros stand for none.
_TRACEPARENT = re.compile(rb"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
_SAMPLED = b"-01"
#: Draws what begins a trace; no secret.
_random: Final = Random().random


class Tracer:
    """Writes the spans of one process of a service; `part` tells it from others that write to the same folder."""

    def __init__(self, service: str, folder: Path | None, part: str | None = None, share: float = 0.0) -> None:
        """Write below a folder, or nowhere; of what comes without a trace this share begins one."""
        #: Of what comes without a trace this share begins one.
        self.share = share if folder is not None else 0.0
        self._provider = TracerProvider(
            resource=Resource.create({"service.name": f"mainstem-{service}"}), sampler=ParentBased(ALWAYS_ON)
        )
        self._files = ExitStack()
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
            out = self._files.enter_context((folder / f"{service}{f'-{part}' if part else ''}.ndjson").open("a"))
            self._provider.add_span_processor(BatchSpanProcessor(ConsoleSpanExporter(out=out, formatter=_line)))
        self._tracer = self._provider.get_tracer("mainstem")

    def drawn(self) -> bool:
        """Tell whether what comes without a trace is to begin one: of so many the share that was set."""
        return _random() < self.share

    def begin(self, name: str, attributes: Mapping[str, str | int]) -> bytes:
        """Record the first span of a trace, and return the traceparent for what follows from it."""
        return self._span(None, name, attributes)

    def step(self, traceparent: bytes | None, name: str, attributes: Mapping[str, str | int]) -> bytes | None:
        """Record a span below `traceparent` if it is sampled, and return the traceparent for what follows from it.

        One that is not well-formed is dropped: it came from outside, and no reader could follow it.
        """
        if traceparent is None or not _TRACEPARENT.fullmatch(traceparent):
            return None
        if not traceparent.endswith(_SAMPLED):
            return traceparent
        return self._span(_PROPAGATOR.extract({"traceparent": traceparent.decode()}), name, attributes)

    def _span(self, parent: Context | None, name: str, attributes: Mapping[str, str | int]) -> bytes:
        span = self._tracer.start_span(name, context=parent, kind=SpanKind.CONSUMER, attributes=dict(attributes))
        span.end()
        context = span.get_span_context()
        return f"00-{context.trace_id:032x}-{context.span_id:016x}-01".encode()

    def close(self) -> None:
        """Write out what is still in memory."""
        self._provider.shutdown()
        self._files.close()


def _line(span: ReadableSpan) -> str:
    return f"{span.to_json(indent=None)}\n"
