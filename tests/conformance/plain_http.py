"""HTTP as it is sent, for what no client of the protocol can say."""

import socket
from collections.abc import Mapping
from dataclasses import dataclass
from http.client import HTTPConnection
from json import loads
from types import MappingProxyType
from typing import Any, Final

Headers = Mapping[str, str]

NO_HEADERS: Final[Headers] = MappingProxyType({})
TIMEOUT_S: Final = 20


@dataclass(frozen=True)
class Response:
    """An answer of HTTP."""

    status: int
    headers: Mapping[str, str]
    content: bytes

    @property
    def json(self) -> Any:
        return loads(self.content)


class Http:
    """HTTP as it is sent."""

    def __init__(self, address: str) -> None:
        self.host, _, port = address.partition(":")
        self.port = int(port)

    def connect(self) -> HTTPConnection:
        """Return a connection for several requests."""
        return HTTPConnection(self.host, self.port, timeout=TIMEOUT_S)

    def request(
        self, method: str, path: str, body: str | bytes | None = None, headers: Headers = NO_HEADERS
    ) -> Response:
        """Return the answer to one request on a connection of its own."""
        connection = self.connect()
        try:
            connection.request(method, path, body or None, dict(headers))
            return self.read(connection)
        finally:
            connection.close()

    @staticmethod
    def read(connection: HTTPConnection) -> Response:
        """Return the next answer on a connection."""
        found = connection.getresponse()
        return Response(found.status, {name.lower(): value for name, value in found.getheaders()}, found.read())

    def get(self, path: str) -> Response:
        return self.request("GET", path)

    def post(self, path: str, body: str | bytes = b"", headers: Headers = NO_HEADERS) -> Response:
        return self.request("POST", path, body, headers)

    def send(self, content: bytes) -> bytes:
        """Return all that comes back until the server closes the connection."""
        with socket.create_connection((self.host, self.port), timeout=TIMEOUT_S) as connection:
            connection.sendall(content)
            found = b""
            while some := connection.recv(1 << 16):
                found += some
        return found
