"""Processes that answer calls, and what they take."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from socket import create_server

HOST = "127.0.0.1"
_PATIENCE_S = 60
#: How long a start takes is told that exactly.
_OFTEN_S = 0.02


@dataclass(frozen=True, slots=True)
class Server:
    """A process that answers at two ports."""

    pid: int
    http: int
    grpc: int

    def cpu_us(self) -> float:
        """Return what all threads of it and of its workers have taken."""
        pids = (self.pid, *self.children())
        tasks = [task for pid in pids for task in Path(f"/proc/{pid}/task").iterdir()]
        return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e3

    def children(self) -> list[int]:
        """Return the processes that it started, in their order."""
        return [int(pid) for pid in Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()]


@asynccontextmanager
async def answering(argv: Sequence[str], env: Mapping[str, str], ready: str) -> AsyncIterator[Server]:
    """Run a program that is told its ports in its environment, as a service is; wait until `ready` is answered."""
    http, grpc = _free_port(), _free_port()
    doors = {"MAINSTEM_HTTP_PORT": str(http), "MAINSTEM_GRPC_PORT": str(grpc), "MAINSTEM_LOG_LEVEL": "ERROR"}
    process = await asyncio.create_subprocess_exec(
        *argv, env={**os.environ, **env, **doors}, stdout=asyncio.subprocess.DEVNULL
    )
    try:
        async with asyncio.timeout(_PATIENCE_S):
            while not await _says_ok(http, ready):  # noqa: ASYNC110  (it is another process)
                await asyncio.sleep(_OFTEN_S)
        yield Server(process.pid, http, grpc)
    finally:
        with suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
        await process.wait()


async def _says_ok(port: int, path: str) -> bool:
    try:
        reader, writer = await asyncio.open_connection(HOST, port)
    except ConnectionError:
        return False
    writer.write(f"GET {path} HTTP/1.1\r\nhost: bench\r\nconnection: close\r\n\r\n".encode())
    head = await reader.readline()
    writer.close()
    return b" 200 " in head


def _free_port() -> int:
    with create_server((HOST, 0)) as socket:
        port: int = socket.getsockname()[1]
        return port
