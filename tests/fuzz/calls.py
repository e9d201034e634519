"""Calls of gRPC on one connection, as bytes, and what came of them."""

from urllib.parse import unquote

import hpack

from mainstem.direct import Status
from mainstem.direct.blocks import encoded
from mainstem.direct.frames import FRAME_BYTES, HEAD, HEAD_BYTES, PREFACE, Flag, Kind, frame
from mainstem.direct.unary import PREFIX
from mainstem.serving.rpc import SERVICE

GREETING = PREFACE + frame(Kind.SETTINGS, 0, 0) + frame(Kind.SETTINGS, Flag.ACK, 0)
#: No table, as clients have it that we answer fast.
_HEADERS = b"\x20" + encoded(
    [
        *((b":method", b"POST"), (b":scheme", b"http"), (b":path", f"/{SERVICE}/ModelInfer".encode())),
        *((b"te", b"trailers"), (b"content-type", b"application/grpc")),
    ]
)


def asked(number: int, message: bytes) -> bytes:
    """Return the frames of a call to infer; the message fits the window of a stream."""
    body = PREFIX.pack(0, len(message)) + message
    parts = [body[at : at + FRAME_BYTES] for at in range(0, len(body), FRAME_BYTES)]
    flags = [0] * (len(parts) - 1) + [Flag.END_STREAM]
    data = [frame(Kind.DATA, flag, number, part) for flag, part in zip(flags, parts, strict=True)]
    return frame(Kind.HEADERS, Flag.END_HEADERS, number, _HEADERS) + b"".join(data)


def ended(written: bytes) -> dict[int, tuple[Status, str]]:
    """Return how the calls of a connection ended, by stream: the status, and the words."""
    found, decoder, at = {}, hpack.Decoder(), 0
    while at < len(written):
        word, _, number = HEAD.unpack_from(written, at)
        begin, at = at + HEAD_BYTES, at + HEAD_BYTES + (word >> 8)
        if word & 255 == Kind.HEADERS:
            said = {str(name): str(value) for name, value in decoder.decode(written[begin:at])}
            if "grpc-status" in said:
                found[number] = Status(int(said["grpc-status"])), unquote(said.get("grpc-message", ""))
    return found
