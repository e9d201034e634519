"""Connections to a door, as they are."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Protocol

HOST = "127.0.0.1"


class Listening(Protocol):
    """What stands behind a port of this machine."""

    port: int


@asynccontextmanager
async def raw(served: Listening) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """Open a connection, and have it closed at the end of the block, whatever the other side has done with it."""
    reader, writer = await asyncio.open_connection(HOST, served.port)
    try:
        yield reader, writer
    finally:
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()
