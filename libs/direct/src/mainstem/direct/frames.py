"""Frames of HTTP/2 as bytes, and the faults that end a stream or a connection (RFC 9113)."""

from enum import IntEnum
from struct import Struct
from typing import Final

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
HEAD_BYTES: Final = 9
#: What either side may send in one frame before it is told otherwise; we never tell otherwise.
FRAME_BYTES: Final = 16_384
#: Windows of connections and streams before they are told otherwise, and the largest that there are.
WINDOW_BYTES: Final = 65_535
MOST_WINDOW_BYTES: Final = 2**31 - 1
MOST_FRAME_BYTES: Final = 2**24 - 1
NUMBER_MASK: Final = 2**31 - 1

#: Length and kind in one number, flags, stream.
HEAD: Final = Struct(">IBI")
NUMBER: Final = Struct(">I")
_SETTING: Final = Struct(">HI")
_GOING_AWAY: Final = Struct(">II")


class Kind(IntEnum):
    """What a frame is."""

    DATA = 0
    HEADERS = 1
    PRIORITY = 2
    RST_STREAM = 3
    SETTINGS = 4
    PUSH_PROMISE = 5
    PING = 6
    GOAWAY = 7
    WINDOW_UPDATE = 8
    CONTINUATION = 9


class Flag:
    """What is said of a frame, a bit each; ACK has the one of END_STREAM. An IntFlag would take a µs for each `&`."""

    END_STREAM: Final = 1
    ACK: Final = 1
    END_HEADERS: Final = 4
    PADDED: Final = 8
    PRIORITY: Final = 32


class Code(IntEnum):
    """Why a stream or a connection ends."""

    NO_ERROR = 0
    PROTOCOL_ERROR = 1
    INTERNAL_ERROR = 2
    FLOW_CONTROL_ERROR = 3
    SETTINGS_TIMEOUT = 4
    STREAM_CLOSED = 5
    FRAME_SIZE_ERROR = 6
    REFUSED_STREAM = 7
    CANCEL = 8
    COMPRESSION_ERROR = 9
    CONNECT_ERROR = 10
    ENHANCE_YOUR_CALM = 11
    INADEQUATE_SECURITY = 12
    HTTP_1_1_REQUIRED = 13


class Setting(IntEnum):
    """What one side tells the other about itself."""

    HEADER_TABLE_SIZE = 1
    ENABLE_PUSH = 2
    MAX_CONCURRENT_STREAMS = 3
    INITIAL_WINDOW_SIZE = 4
    MAX_FRAME_SIZE = 5
    MAX_HEADER_LIST_SIZE = 6


class ConnectionFault(Exception):
    """The other side did what ends the connection."""

    def __init__(self, code: Code, why: str) -> None:
        super().__init__(why)
        self.code = code


class StreamFault(Exception):
    """The other side did what ends a stream, and nothing but that."""

    def __init__(self, number: int, code: Code) -> None:
        super().__init__(f"stream {number}: {code.name}")
        self.number = number
        self.code = code


def frame(kind: Kind, flags: int, number: int, payload: bytes = b"") -> bytes:
    """Return a frame of the stream `number`; 0 is the connection."""
    return HEAD.pack(len(payload) << 8 | kind, flags, number) + payload


def settings(told: dict[Setting, int]) -> bytes:
    """Return a frame that tells settings."""
    return frame(Kind.SETTINGS, 0, 0, b"".join(_SETTING.pack(*each) for each in told.items()))


def told(payload: bytes) -> dict[int, int]:
    """Return the settings in a frame, checked, unknown ones included; of each the last. Raises ConnectionFault."""
    if len(payload) % _SETTING.size:
        raise ConnectionFault(Code.FRAME_SIZE_ERROR, f"SETTINGS of {len(payload)} bytes")
    found: list[tuple[int, int]] = list(_SETTING.iter_unpack(payload))
    for setting, value in found:
        if setting == Setting.INITIAL_WINDOW_SIZE and value > MOST_WINDOW_BYTES:
            raise ConnectionFault(Code.FLOW_CONTROL_ERROR, f"an initial window of {value} bytes")
        if setting == Setting.MAX_FRAME_SIZE and not FRAME_BYTES <= value <= MOST_FRAME_BYTES:
            raise ConnectionFault(Code.PROTOCOL_ERROR, f"frames of at most {value} bytes")
        if setting == Setting.ENABLE_PUSH and value > 1:
            raise ConnectionFault(Code.PROTOCOL_ERROR, f"ENABLE_PUSH is {value}")
    return dict(found)


def reset(number: int, code: Code) -> bytes:
    """Return a frame that ends a stream."""
    return frame(Kind.RST_STREAM, 0, number, NUMBER.pack(code))


def window(number: int, more: int) -> bytes:
    """Return a frame that lets the other side send so many bytes more."""
    return frame(Kind.WINDOW_UPDATE, 0, number, NUMBER.pack(more))


def going_away(last: int, code: Code, why: str = "") -> bytes:
    """Return a frame that ends the connection behind the stream `last`."""
    return frame(Kind.GOAWAY, 0, 0, _GOING_AWAY.pack(last, code) + why.encode())


def exactly(payload: bytes, size: int, what: Kind) -> bytes:
    """Return a payload that has its size. Raises ConnectionFault for every other."""
    if len(payload) != size:
        raise ConnectionFault(Code.FRAME_SIZE_ERROR, f"{what.name} of {len(payload)} bytes, not {size}")
    return payload


def unpadded(payload: bytes) -> bytes:
    """Return a payload without its padding. Raises ConnectionFault when there is more of that than of the payload."""
    if not payload or payload[0] >= len(payload):
        raise ConnectionFault(Code.PROTOCOL_ERROR, "a frame that is more padding than it is long")
    return payload[1 : len(payload) - payload[0]]
