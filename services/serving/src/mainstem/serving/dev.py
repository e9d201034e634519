"""`mainstem serve --dev`: the ONNX files of a folder behind the doors of the protocol, for this machine alone."""

import asyncio
import signal
import socket
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, closing, contextmanager
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv4Address
from pathlib import Path
from typing import Final

import uvicorn
import uvloop
from typing_extensions import override

from mainstem.direct import Door, Upstream
from mainstem.events.errors import Rejected
from mainstem.runtime.health import Health
from mainstem.runtime.http import application
from mainstem.serving.api import Api, error
from mainstem.serving.crew import LOCAL, vacant
from mainstem.serving.grpc_api import GrpcApi
from mainstem.serving.hot_api import OPERATED, HotApi
from mainstem.serving.rpc import Rpc
from mainstem.serving.unmanaged import Folder

#: Says where the process runs; `local` unless it is set, as images of ours set it.
ENVIRONMENT: Final = "MAINSTEM_ENVIRONMENT"
_GRACE_S: Final = 1.0
#: Models that are tried out may be slow.
_DEADLINE_S: Final = 60.0


class NotHere(Rejected):
    """Models that nobody approved may not be served in this place."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a folder is served; a port of 0 is any free one."""

    folder: Path
    host: str = LOCAL
    http_port: int = 8000
    grpc_port: int = 8001

    def check(self, environment: Mapping[str, str]) -> None:
        """Raise NotHere anywhere but on a developer's machine, for the machine itself."""
        named = environment.get(ENVIRONMENT, "local")
        if named != "local":
            raise NotHere(f"{ENVIRONMENT} is {named!r}: unapproved models are served where it is 'local' alone")
        if not _is_loopback(self.host):
            raise NotHere(f"{self.host!r} can be reached by others: unapproved models are served on {LOCAL} alone")
        if not self.folder.is_dir():
            raise NotHere(f"{self.folder} is no folder; name one with NAME.onnx or NAME/VERSION/model.onnx in it")


def run(place: Place, environment: Mapping[str, str], tell: Callable[[str], None]) -> None:
    """Serve a folder until Ctrl-C or SIGTERM; raise NotHere where that may not be, and OSError for a port in use."""
    place.check(environment)
    uvloop.run(_serve(place, tell))


async def _serve(place: Place, tell: Callable[[str], None]) -> None:
    ended, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, ended.set)
    await vacant(place.host, place.http_port, place.grpc_port, within_s=0)
    with closing(Folder(place.folder)) as models:
        async with opened(place, models) as (http_port, grpc_port):
            for one in models.index():
                tell(f"{one.name} version {one.version}: {one.reason or one.state.lower()}")
            tell(f"HTTP on {place.host}:{http_port}, gRPC on {place.host}:{grpc_port}; unmanaged, nothing is recorded")
            await ended.wait()


@asynccontextmanager
async def opened(place: Place, models: Folder) -> AsyncIterator[tuple[int, int]]:
    """Serve models on both ports, which are given, while the block runs; then end what was begun within a second."""
    health = Health()
    health.require("models", models.fault)
    async with AsyncExitStack() as stack:
        rest = stack.enter_context(socket.socket())
        rest.bind((LOCAL, 0))
        pages = _Pages(
            uvicorn.Config(application(health, Api(models).routes(), error), log_config=None, lifespan="off")
        )
        serving = asyncio.create_task(pages.serve([rest]))
        stack.push_async_callback(asyncio.wait, [serving])
        stack.callback(pages.stop)
        server, grpc_port = await GrpcApi(Rpc(models, deadline_s=_DEADLINE_S)).start(f"{place.host}:{place.grpc_port}")
        stack.push_async_callback(server.stop, _GRACE_S)
        door = Door(HotApi(models, deadline_s=_DEADLINE_S).route, Upstream(LOCAL, rest.getsockname()[1], OPERATED))
        yield await stack.enter_async_context(door.listening(place.host, place.http_port)), grpc_port


class _Pages(uvicorn.Server):
    """The pages of the service behind the door; signals are the process's own affair."""

    def stop(self) -> None:
        """End it when it has answered what it has taken."""
        self.should_exit = True

    @override
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _is_loopback(host: str) -> bool:
    try:
        return IPv4Address(host).is_loopback
    except AddressValueError:
        return False
