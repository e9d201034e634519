"""The specification and the payloads of accepted records, as the check reads them."""

import re
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Final, Protocol, cast

import msgspec

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_TICK: Final = timedelta(microseconds=1)
#: Characters of an instant with six decimals and an offset at most: a shorter one has no seventh decimal.
_NO_SEVENTH_DECIMAL: Final = 27
_SEVENTH_DECIMAL: Final = re.compile(r"(\.\d{6})(\d+)")


class _Column(msgspec.Struct):
    type: str


class _Stream(msgspec.Struct):
    name: str
    columns: dict[str, _Column]


class _Feature(msgspec.Struct):
    name: str
    value: object


class Specification(msgspec.Struct):
    """What the check needs to know of a compiled feature set; the spine is the first stream."""

    lateness_us: int
    streams: list[_Stream]
    features: list[_Feature]

    @property
    def names(self) -> list[str]:
        """Return the names of the features, in the order of the vector."""
        return [feature.name for feature in self.features]

    def reach_us(self) -> int | None:
        """Return how far before a spine event a value may look back, or None if it has no end."""
        spans = [span for feature in self.features for span in _spans(feature.value)]
        return None if None in spans else max((span for span in spans if span is not None), default=0)


def specification(spec: Mapping[str, object]) -> Specification:
    """Read the specification of a compiled set; raise msgspec.ValidationError when it is none."""
    return msgspec.convert(spec, Specification)


def _spans(expression: object) -> Iterator[int | None]:
    """Yield how far each aggregate of an expression looks back."""
    match expression:
        case {"aggregate": _, "window_us": int(window), "hop_us": int(hop)}:
            yield window + hop
        case {"aggregate": _, "horizon_us": int(span)} | {"aggregate": _, "ttl_us": int() | None as span}:
            yield span
        case {"args": [*args]}:
            for arg in args:
                yield from _spans(arg)
        case _:
            pass  # a column, a literal, a local time: of the spine record itself


class _Accepted(Protocol):
    """What a decoder of accepted payloads makes."""

    record: msgspec.Struct


class Payloads:
    """Decodes accepted records: of each the columns that the specification names, and no others."""

    def __init__(self, streams: list[_Stream]) -> None:
        self._decode: dict[str, Callable[[bytes], _Accepted]] = {}
        self._times: dict[str, list[str]] = {}
        for stream in streams:
            fields = [(name, _WIRE[column.type], None) for name, column in stream.columns.items()]
            record = msgspec.defstruct("Record", fields, gc=False)
            accepted = msgspec.defstruct("Accepted", [("record", record)], gc=False)
            self._decode[stream.name] = cast("Callable[[bytes], _Accepted]", msgspec.json.Decoder(accepted).decode)
            self._times[stream.name] = [name for name, column in stream.columns.items() if column.type == "time"]

    def columns(self, stream: str, payload: bytes) -> dict[str, object] | None:
        """Return the columns as the reference takes them; None for a payload that nobody accepted."""
        try:
            columns: dict[str, object] = msgspec.structs.asdict(self._decode[stream](payload).record)
            for name in self._times[stream]:
                columns[name] = _micros(columns[name])
        except (msgspec.MsgspecError, ValueError, IndexError, RecursionError):
            return None
        return columns


_WIRE: Final[Mapping[str, object]] = {
    "fixed": int | float | None,
    "category": str | None,
    "time": str | None,
    "boolean": bool | None,
}


def _micros(text: object) -> int | None:
    """Return the microseconds of an RFC 3339 instant, to the nearest: the seventh decimal decides, a five rounds up."""
    if not isinstance(text, str):
        return None
    found, up = _SEVENTH_DECIMAL.search(text) if len(text) > _NO_SEVENTH_DECIMAL else None, 0
    if found is not None:
        text, up = text[: found.start(2)] + text[found.end() :], int(found[2][0] >= "5")
    if text[-1] == "z" or text[10] == "t":
        text = text.upper()
    return (datetime.fromisoformat(text) - _EPOCH) // _TICK + up
