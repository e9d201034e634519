"""What we accept and refuse is what `h2` does, byte script by byte script; where the codes differ, that is said."""

from types import SimpleNamespace

import h2.config
import h2.connection
import h2.events
import h2.exceptions
import h2.settings
import hpack
import pytest

from mainstem.direct.frames import HEAD, MOST_WINDOW_BYTES, NUMBER, PREFACE, Code, Flag, Kind, Setting, frame, settings
from mainstem.direct.unary import PREFIX

HELLO = PREFACE + frame(Kind.SETTINGS, 0, 0)
WHOLE = Flag.END_HEADERS | Flag.END_STREAM


def by_h2(script: bytes) -> tuple[dict[int, bytes], set[int]]:
    """Return the bodies that `h2` took, by stream, and the codes of what it refused."""
    server = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False, header_encoding=None))
    server.initiate_connection()
    bodies: dict[int, bytes] = {}
    whole: dict[int, bytes] = {}
    codes: set[int] = set()
    try:
        for event in (event for byte in script for event in server.receive_data(bytes((byte,)))):
            match event:
                case h2.events.RequestReceived():
                    bodies[event.stream_id] = b""
                case h2.events.DataReceived():
                    bodies[event.stream_id] += event.data
                case h2.events.StreamEnded():
                    whole[event.stream_id] = bodies[event.stream_id]
                case h2.events.StreamReset() if not event.remote_reset:
                    codes.add(int(event.error_code))
    except h2.exceptions.ProtocolError as fault:
        codes.add(int(fault.error_code))
    return whole, codes


def scripts(h2c: SimpleNamespace) -> dict[str, bytes]:
    """Return what clients may do."""
    request, body, encoder = h2c.block(), h2c.prefixed(b"hello"), hpack.Encoder()
    padded = bytes((7,)) + body + bytes(7)
    weighed = bytes((0, 0, 0, 0, 15)) + request
    parts = [h2c.data(1, body[at : at + 7], 0) for at in range(0, len(body), 7)]
    trailers = hpack.Encoder().encode([(b"behind", b"all")])
    return {
        "a call": h2c.call(1),
        "two calls": h2c.call(1) + h2c.call(3, b"x" * 9000),
        "streams left out": h2c.call(5) + h2c.call(11),
        "padding": h2c.headers(1, bytes((3,)) + request + bytes(3), Flag.END_HEADERS | Flag.PADDED)
        + h2c.data(1, padded, Flag.END_STREAM | Flag.PADDED),
        "only padding": h2c.headers(1, request)
        + h2c.data(1, bytes((19,)) + bytes(19), Flag.PADDED)
        + h2c.data(1, body),
        "data of 7 bytes": h2c.headers(1, request) + b"".join(parts) + h2c.data(1, b""),
        "continuation": frame(Kind.HEADERS, 0, 1, request[:5])
        + frame(Kind.CONTINUATION, 0, 1, request[5:9])
        + frame(Kind.CONTINUATION, Flag.END_HEADERS, 1, request[9:])
        + h2c.data(1, body),
        "a table": b"".join(
            h2c.headers(number, h2c.block((b"x-id", b"%d" % (number % 7)), encoder=encoder)) + h2c.data(number, body)
            for number in range(1, 41, 2)
        ),
        "a weight": h2c.headers(1, weighed, Flag.END_HEADERS | Flag.PRIORITY) + h2c.data(1, body),
        "priority": frame(Kind.PRIORITY, 0, 9, bytes((0, 0, 0, 0, 15))) + h2c.call(1),
        "unknown frames": frame(77, 0, 0, b"x") + h2c.call(1) + frame(78, 255, 1, b"y"),  # type: ignore[arg-type]
        "unknown settings": frame(Kind.SETTINGS, 0, 0, b"\x00\x99\x00\x00\x00\x01") + h2c.call(1),
        "trailers": h2c.headers(1, request) + h2c.data(1, body, 0) + h2c.headers(1, trailers, WHOLE),
        "trailers that end nothing": h2c.headers(1, request) + h2c.data(1, body, 0) + h2c.headers(1, trailers),
        "trailers with a path": h2c.headers(1, request) + h2c.headers(1, request, WHOLE),
        "only headers": h2c.headers(1, request, WHOLE),
        "a reset in the middle": h2c.headers(1, request)
        + frame(Kind.RST_STREAM, 0, 1, NUMBER.pack(Code.CANCEL))
        + h2c.call(3),
        "ping": frame(Kind.PING, 0, 0, bytes(8)) + h2c.call(1),
        "the length is right": h2c.headers(1, h2c.block((b"content-length", b"10"))) + h2c.data(1, body),
        "the length is wrong": h2c.headers(1, h2c.block((b"content-length", b"9"))) + h2c.data(1, body),
        "the length is none": h2c.headers(1, h2c.block((b"content-length", b"x"))) + h2c.data(1, body),
    } | faults(h2c)


def faults(h2c: SimpleNamespace) -> dict[str, bytes]:
    """Return what clients may not do."""
    request, body = h2c.block(), h2c.prefixed(b"hello")
    return faults_of_headers(h2c) | {
        "data of the connection": h2c.data(0, body),
        "data of a stream that has not begun": h2c.data(1, body),
        "headers of the connection": h2c.headers(0, request),
        "an even stream": h2c.headers(2, request),
        "a stream before the last": h2c.call(5) + h2c.call(3),
        "a stream that is over": h2c.call(5) + h2c.call(5),
        "a window of nothing more": frame(Kind.WINDOW_UPDATE, 0, 0, NUMBER.pack(0)),
        "a stream's window of nothing more": h2c.headers(1, request) + frame(Kind.WINDOW_UPDATE, 0, 1, NUMBER.pack(0)),
        "too large a window": frame(Kind.WINDOW_UPDATE, 0, 0, NUMBER.pack(MOST_WINDOW_BYTES)),
        "too large a window of a stream": h2c.headers(1, request)
        + frame(Kind.WINDOW_UPDATE, 0, 1, NUMBER.pack(MOST_WINDOW_BYTES)),
        "a window of 3 bytes": frame(Kind.WINDOW_UPDATE, 0, 0, b"abc"),
        "a window of a stream that has not begun": frame(Kind.WINDOW_UPDATE, 0, 1, NUMBER.pack(1)),
        "settings of 5 bytes": frame(Kind.SETTINGS, 0, 0, b"abcde"),
        "settings of a stream": frame(Kind.SETTINGS, 0, 1),
        "an acknowledgement of something": frame(Kind.SETTINGS, Flag.ACK, 0, bytes(6)),
        "too large an initial window": settings({Setting.INITIAL_WINDOW_SIZE: 2**31}),
        "too small a frame": settings({Setting.MAX_FRAME_SIZE: 1}),
        "a push of 2": settings({Setting.ENABLE_PUSH: 2}),
        "a ping of 7 bytes": frame(Kind.PING, 0, 0, bytes(7)),
        "a ping of a stream": frame(Kind.PING, 0, 1, bytes(8)),
        "a push promise": h2c.headers(1, request) + frame(Kind.PUSH_PROMISE, Flag.END_HEADERS, 1, NUMBER.pack(2)),
        "continuation of nothing": frame(Kind.CONTINUATION, Flag.END_HEADERS, 1, request),
        "continuation of another": frame(Kind.HEADERS, 0, 1, request) + frame(Kind.CONTINUATION, 4, 3, b""),
        "a ping inside headers": frame(Kind.HEADERS, 0, 1, request) + frame(Kind.PING, 0, 0, bytes(8)),
        "too large a frame": HEAD.pack(16_385 << 8 | Kind.DATA, 0, 1) + bytes(16_385),
        "more padding than data": h2c.headers(1, request) + h2c.data(1, bytes((9,)) + b"abc", Flag.PADDED),
        "no HPACK": h2c.headers(1, b"\xff\xff\xff\xff\xff\xff"),
        "a table that is too large": h2c.headers(1, b"\x3f\xe1\xff\x03" + request),
        "a reset of nothing": frame(Kind.RST_STREAM, 0, 1, NUMBER.pack(0)),
        "a reset of 3 bytes": h2c.headers(1, request) + frame(Kind.RST_STREAM, 0, 1, b"abc"),
        "priority of 4 bytes": frame(Kind.PRIORITY, 0, 1, b"abcd"),
        "priority of the connection": frame(Kind.PRIORITY, 0, 0, bytes(5)),
        "data behind the end": h2c.headers(1, h2c.block(path=b"/test.Service/Wait"))
        + h2c.data(1, body)
        + h2c.data(1, body),
        "headers behind the end": h2c.headers(1, h2c.block(path=b"/test.Service/Wait"))
        + h2c.data(1, body)
        + h2c.headers(1, hpack.Encoder().encode([(b"behind", b"all")]), WHOLE),
        "more than the window": h2c.headers(1, request)
        + b"".join(h2c.data(1, PREFIX.pack(0, 70_000) + bytes(16_000), 0) for _ in range(5)),
        "a farewell of 7 bytes": frame(Kind.GOAWAY, 0, 0, bytes(7)),
    }


def faults_of_headers(h2c: SimpleNamespace) -> dict[str, bytes]:
    """Return what no request may say of itself."""
    fields = list(h2c.REQUEST)

    def asked(*fields: tuple[bytes, bytes]) -> bytes:
        return h2c.headers(1, hpack.Encoder().encode(fields), WHOLE)

    return {
        "capital letters": asked(*fields, (b"X-Id", b"1")),
        "no path": asked(*[each for each in fields if each[0] != b":path"]),
        "an empty path": asked(*[(name, b"" if name == b":path" else value) for name, value in fields]),
        "two methods": asked(fields[0], *fields),
        "a status": asked((b":status", b"200"), *fields),
        "a pseudo-header behind others": asked(*fields[1:], fields[0]),
        "a header of connections": asked(*fields, (b"connection", b"close")),
        "te of more than trailers": asked(*[each for each in fields if each[0] != b"te"], (b"te", b"gzip")),
    }


#: Where the codes differ: h2 has one for most faults, RFC 9113 has more.
OURS: dict[str, tuple[dict[int, bytes], set[int]]] = {
    "a stream that is over": ({5: b"hello"}, {Code.PROTOCOL_ERROR}),  # we do not remember it
    "an acknowledgement of something": ({}, {Code.FRAME_SIZE_ERROR}),
    "no HPACK": ({}, {Code.COMPRESSION_ERROR}),
    "a table that is too large": ({}, {Code.COMPRESSION_ERROR}),
}


def names() -> list[str]:
    """Return the names of the scripts, which need no fixture."""
    words = SimpleNamespace(**dict.fromkeys(("block", "headers", "data", "call", "prefixed"), lambda *_, **__: b""))
    words.REQUEST = [(b"", b"")] * 6
    return list(scripts(words))


def kept(bodies: dict[int, bytes]) -> dict[int, bytes]:
    """Return the messages of bodies that have one."""
    return {number: body[PREFIX.size :] for number, body in bodies.items() if body}


@pytest.mark.parametrize("at_once", [True, False], ids=["at once", "byte by byte"])
@pytest.mark.parametrize("name", names())
async def test_a_client_hears_what_h2_would_tell_it(h2c: SimpleNamespace, name: str, at_once: bool) -> None:
    script = HELLO + scripts(h2c)[name]
    bodies, codes = by_h2(script)
    peer = h2c.Peer().say(*([script] if at_once else [bytes((byte,)) for byte in script]))
    ours = peer.taken, {code for code in peer.ended().values() if code}
    assert ours == OURS.get(name, (kept(bodies), codes))
