"""Free TCP ports on loopback."""

import random
import socket
from collections.abc import Mapping

HOST = "127.0.0.1"


def is_free(port: int) -> bool:
    """Tell whether a server could listen on the port now; connections in their last minute do not count."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
            probe.listen(1)
        except OSError:
            return False
    return True


def choose(preferred: Mapping[str, int]) -> dict[str, int]:
    """Give each name its preferred port or the next free one above it, no port twice."""
    chosen: dict[str, int] = {}
    for name, wanted in preferred.items():
        port = wanted
        while port in chosen.values() or not is_free(port):
            port += 1
        chosen[name] = port
    return chosen


def anywhere(names: Mapping[str, int]) -> dict[str, int]:
    """Give each name a port of a random block, so that platforms that start at once do not race for the defaults.

    The block lies below the kernel's range for outgoing connections: a client that retries against a dead port
    of that range can end up connected to itself and hold the port.
    """
    first = random.randrange(20_000, 32_000 - len(names))
    return choose({name: first + place for place, name in enumerate(names)})
