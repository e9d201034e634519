"""A client that costs little: one request again and again on many connections, from one process.

`python -m tests.bench.pump PORT PATH CONNECTIONS SECONDS LENGTH < BODY`, where LENGTH is the header that says how much
of the body is JSON, or 0. Prints JSON: how many were asked in all, answers a second, latencies p50 and p99 in µs.
"""

import json
import selectors
import socket
import sys
import time
from collections.abc import Sequence

import numpy as np

HOST = "127.0.0.1"
_WARM_S = 0.3


class Line:
    """A connection on which a request is on its way."""

    def __init__(self, port: int, request: bytes) -> None:
        self._request = request
        self.socket = socket.create_connection((HOST, port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._heard, self._wanted, self.asked = b"", 0, 0.0
        self.begin()

    def begin(self) -> None:
        """Send the first request."""
        self.ask()

    def ask(self) -> None:
        """Send the request."""
        self.asked = time.perf_counter()
        self.socket.sendall(self._request)

    def hear(self) -> bool:
        """Take what has come; tell whether that is the whole answer. Raises RuntimeError when it is none."""
        self._heard += self.socket.recv(1 << 16)
        if not self._wanted:
            head, found, _ = self._heard.partition(b"\r\n\r\n")
            if not found:
                return False
            if not head.startswith(b"HTTP/1.1 200"):
                raise RuntimeError(f"the server said {self._heard[:500].decode()}")
            length = head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0]
            self._wanted = len(head) + 4 + int(length)
        if len(self._heard) < self._wanted:
            return False
        self._heard, self._wanted = b"", 0
        return True


def pump(lines: Sequence[Line], seconds: float) -> list[float]:
    """Ask on every line as soon as it has answered; return the seconds that answers took."""
    watch, took = selectors.DefaultSelector(), list[float]()
    for line in lines:
        watch.register(line.socket, selectors.EVENT_READ, line)
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        for key, _ in watch.select(1):
            if key.data.hear():
                took.append(time.perf_counter() - key.data.asked)
                key.data.ask()
    watch.close()
    return took


def main() -> None:
    """Ask for as long as is wanted."""
    port, path, connections, seconds, length = sys.argv[1:]
    body = sys.stdin.buffer.read()
    head = [f"POST {path} HTTP/1.1", "host: bench", "content-type: application/json", f"content-length: {len(body)}"]
    if length != "0":
        head.append(f"inference-header-content-length: {length}")
    request = "\r\n".join([*head, "\r\n"]).encode() + body
    report([Line(int(port), request) for _ in range(int(connections))], float(seconds))


def report(lines: Sequence[Line], seconds: float) -> None:
    """Warm up, measure, and print."""
    asked = len(pump(lines, _WARM_S))
    began = time.perf_counter()
    took = pump(lines, seconds)
    rate = len(took) / (time.perf_counter() - began)
    p50, p99 = np.percentile(took, [50, 99]) * 1e6
    print(json.dumps({"asked": asked + len(took), "per_second": rate, "p50_us": p50, "p99_us": p99}))


if __name__ == "__main__":
    main()
