"""The same client on gRPC: one unary call again and again on many connections, HTTP/2 by hand.

`python -m tests.bench.grpc_pump PORT METHOD CONNECTIONS SECONDS < MESSAGE`. Prints what `tests.bench.pump` prints.
"""

import struct
import sys
import time

import hpack
from tests.bench.pump import HOST, Line, report
from typing_extensions import override

_FRAME = struct.Struct(">IBI")
_HEADERS, _RST_STREAM, _SETTINGS, _PING, _GOAWAY, _WINDOW_UPDATE = 1, 3, 4, 6, 7, 8
_ACK = _END_STREAM = 1
_END_HEADERS = 4
_MOST = 2**31 - 1


def _frame(kind: int, flags: int, number: int, payload: bytes) -> bytes:
    return _FRAME.pack(len(payload) << 8 | kind, flags, number) + payload


def _literals(fields: dict[str, str]) -> bytes:
    """Return a block of headers that is the same in every call; it says each time that there is no table."""
    pairs = [(name.encode(), value.encode()) for name, value in fields.items()]
    return b"\x20" + b"".join(b"\0%c%b%c%b" % (len(name), name, len(value), value) for name, value in pairs)


#: No table; windows that are never used up.
_HELLO = (
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
    + _frame(_SETTINGS, 0, 0, struct.pack(">HIHI", 1, 0, 4, _MOST))
    + _frame(_WINDOW_UPDATE, 0, 0, struct.pack(">I", _MOST - 65_535))
)


class GrpcLine(Line):
    """A connection on which a call of gRPC is on its way."""

    def __init__(self, port: int, method: str, message: bytes) -> None:
        fields = {":method": "POST", ":scheme": "http", ":path": method, ":authority": f"{HOST}:{port}"}
        self._block = _literals({**fields, "te": "trailers", "content-type": "application/grpc"})
        self._statuses: dict[bytes, bytes] = {}
        self._body = struct.pack(">BI", 0, len(message)) + message
        self._number = -1
        self._rest = b""
        super().__init__(port, b"")

    @override
    def begin(self) -> None:
        self.socket.sendall(_HELLO)
        self.ask()

    @override
    def ask(self) -> None:
        self._number += 2
        self.asked = time.perf_counter()
        headers = _frame(_HEADERS, _END_HEADERS, self._number, self._block)
        self.socket.sendall(headers + _frame(0, _END_STREAM, self._number, self._body))

    @override
    def hear(self) -> bool:
        heard, at, ended = self._rest + self.socket.recv(1 << 16), 0, False
        while len(heard) - at >= _FRAME.size:
            word, flags, number = _FRAME.unpack_from(heard, at)
            end = at + _FRAME.size + (word >> 8)
            if end > len(heard):
                break
            kind, payload = word & 255, heard[at + _FRAME.size : end]
            if kind in (_RST_STREAM, _GOAWAY):
                raise RuntimeError(f"the server said {heard[at:end]!r}")
            if kind == _HEADERS and flags & _END_STREAM and number == self._number:
                self._check(payload)
                ended = True
            elif kind in (_SETTINGS, _PING) and not flags & _ACK:
                self.socket.sendall(_frame(kind, _ACK, 0, payload if kind == _PING else b""))
            at = end
        self._rest = heard[at:]
        return ended

    def _check(self, trailers: bytes) -> None:
        """Raise RuntimeError unless a call ended well."""
        if trailers not in self._statuses:
            self._statuses[trailers] = dict(hpack.Decoder().decode(trailers, raw=True))[b"grpc-status"]
        if self._statuses[trailers] != b"0":
            raise RuntimeError(f"the call ended with {hpack.Decoder().decode(trailers)}")


def main() -> None:
    """Warm up, measure, and print."""
    port, method, connections, seconds = sys.argv[1:]
    message = sys.stdin.buffer.read()
    report([GrpcLine(int(port), method, message) for _ in range(int(connections))], float(seconds))


if __name__ == "__main__":
    main()
