"""Ask a server whether it answers."""

import asyncio
import json
from collections.abc import Mapping

from mainstem.cli.local.ports import HOST
from mainstem.cli.local.process import short_lived


async def accepts(port: int) -> bool:
    """Tell that something accepts connections; raises OSError while nothing does."""
    _, writer = await asyncio.open_connection(HOST, port)
    writer.close()
    await writer.wait_closed()
    return True


async def answers_ready(port: int) -> bool:
    """Tell whether `GET /readyz` answers 200; raises OSError while nothing listens."""
    return await faults(port) == {}


async def faults(port: int) -> Mapping[str, str] | None:
    """Return what keeps a service from being ready, by check: nothing when it is, None when it does not say.

    Raises OSError while nothing listens.
    """
    reader, writer = await asyncio.open_connection(HOST, port)
    try:
        writer.write(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    finally:
        writer.close()
    if head.split()[1:2] == [b"200"]:
        return {}
    try:
        return {str(name): str(fault) for name, fault in json.loads(body)["faults"].items()}
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


async def exits_with_zero(*argv: str) -> bool:
    """Tell whether a program succeeds; its output is dropped."""
    nothing = asyncio.subprocess.DEVNULL
    async with short_lived(*argv, stdin=nothing, stdout=nothing) as child:
        return await child.wait() == 0
