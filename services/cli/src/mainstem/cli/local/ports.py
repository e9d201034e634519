"""TCP ports on loopback: which are free, which are ours, who listens."""

import random
import socket
from collections.abc import Collection, Mapping
from contextlib import suppress

import psutil

HOST = "127.0.0.1"


def is_free(port: int) -> bool:
    """Tell whether a server could listen on the port now; connections in their last minute do not count."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            # Bound and not listening: two that look at once are not in each other's way, nor in a server's.
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def listens(pid: int, ports: Collection[int]) -> bool:
    """Tell whether a process, or one that it started, listens on each of these ports: what they answer is its answer.

    A process of another user, which the system may not let us look into, is believed.
    """
    found = set[int]()
    try:
        process = psutil.Process(pid)
        for each in (process, *process.children(recursive=True)):
            sockets = each.net_connections("tcp")
            found |= {other.laddr.port for other in sockets if other.status == psutil.CONN_LISTEN}
    except psutil.AccessDenied:
        return True
    except psutil.NoSuchProcess:
        return False
    return found >= set(ports)


def anywhere(names: Collection[str]) -> dict[str, int]:
    """Give each name a free port of a random block.

    The block lies below the kernel's range for outgoing connections: a client that retries against a dead port
    of that range can end up connected to itself and hold the port.
    """
    while True:
        first = random.randrange(20_000, 32_000 - len(names))
        block = {name: first + place for place, name in enumerate(names)}
        if all(map(is_free, block.values())):
            return block


class Reservation:
    """A free port for each name, which no other platform takes while the reservation is open.

    A TCP port is held by the UDP port of the same number: only one process can bind that, the server that is to listen
    is not in its way, and nothing is left when this process ends, however it ends.
    """

    def __init__(self, preferred: Mapping[str, int]) -> None:
        self._ports: dict[str, int] = {}
        self._holds: dict[str, socket.socket] = {}
        for name, port in preferred.items():
            self._take(name, port)

    def __getitem__(self, name: str) -> int:
        """Return the port of this name: the preferred one, or the next above it that was free."""
        return self._ports[name]

    def replace(self, lost: Collection[int]) -> None:
        """Move the names of these ports, which somebody else took, to the next free ones."""
        for name, port in self._ports.items():
            if port in lost:
                self._holds[name].close()
                self._take(name, port + 1)

    def close(self) -> None:
        """Let go of all ports."""
        for hold in self._holds.values():
            hold.close()

    def _take(self, name: str, port: int) -> None:
        while (hold := _hold(port)) is None:
            port += 1
        self._ports[name], self._holds[name] = port, hold


def _hold(port: int) -> socket.socket | None:
    """Hold a port; None when another platform holds it or somebody listens on it."""
    hold = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with suppress(OSError):
        hold.bind((HOST, port))
        if is_free(port):
            return hold
    hold.close()
    return None
