"""Spans on disk, by OpenTelemetry's SDK: one a line, in its own JSON form."""

from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, ParentBased
from opentelemetry.trace import SpanKind
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

_PROPAGATOR = TraceContextTextMapPropagator()


class Written:
    """Spans that are appended to a file."""

    def __init__(self, service: str, file: Path) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        self._files = ExitStack()
        out = self._files.enter_context(file.open("a"))
        self._provider = TracerProvider(
            resource=Resource.create({"service.name": f"mainstem-{service}"}), sampler=ParentBased(ALWAYS_ON)
        )
        self._provider.add_span_processor(BatchSpanProcessor(ConsoleSpanExporter(out=out, formatter=_line)))
        self._tracer = self._provider.get_tracer("mainstem")

    def add(self, traceparent: bytes | None, name: str, attributes: Mapping[str, str | int]) -> bytes:
        """Record a span below `traceparent`, or the first of a trace; return the traceparent for what follows."""
        parent = None if traceparent is None else _PROPAGATOR.extract({"traceparent": traceparent.decode()})
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
