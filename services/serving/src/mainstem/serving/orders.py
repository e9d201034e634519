"""What the service tells its processes and hears of them, over a socket pair: a length (u32) and MessagePack each."""

import asyncio
import socket
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from struct import Struct
from typing import Literal, Self

import msgspec

from mainstem.serving.domain import Activation, Followed, Reached, Usage, summed
from mainstem.telemetry import metrics
from mainstem.telemetry.told import Told

_LENGTH = Struct("<I")
#: Whoever is not dismissed within this time of asking for it ends by itself.
_ALONE_S = 3.0


class Post(msgspec.Struct, frozen=True, tag=True):
    """What a worker needs to know to begin: where it listens, what it keeps, who answers the rest."""

    number: int
    host: str
    http_port: int
    grpc_port: int
    grpc_server: Literal["grpcio", "fast"]
    upstream_host: str
    upstream_port: int
    spool: str
    spool_bytes: int
    sync_each: bool
    deadline_s: float
    artifacts: str
    kafka: str
    lookups: str
    traces: str | None
    trace_share: float
    log_level: str


class Sends(msgspec.Struct, frozen=True, tag=True):
    """Which spools are to be sent."""

    folders: Sequence[str]


class Routes(msgspec.Struct, frozen=True, tag=True):
    """What answers from now on, the last activation of each model; `warm` is to be loaded besides: digest and width.

    `lookups` are what is followed, by the identity of the set.
    """

    serial: int
    activations: Sequence[Activation]
    warm: Mapping[str, int]
    lookups: Mapping[str, Followed] = msgspec.field(default_factory=dict)
    #: Models whose records may be dropped.
    droppable: Collection[str] = ()


class Seen(msgspec.Struct, frozen=True, tag=True):
    """How far partitions of feature topics were seen."""

    partitions: Sequence[tuple[str, int, Reached]]


class Ask(msgspec.Struct, frozen=True, tag=True):
    """A process is to tell what it did."""

    serial: int


class Routed(msgspec.Struct, frozen=True, tag=True):
    """A worker answers by these routes; `faults` says by digest why a model could not be loaded."""

    serial: int
    faults: Mapping[str, str]


class Figures(msgspec.Struct, frozen=True, tag=True):
    """What a process did since it began, or processes that ended: metrics, and answers by version.

    A reply to what was asked, or said unasked: then the serial is 0. `recorded` is how many answers a spool ever took,
    by its name.
    """

    serial: int
    metrics: Told
    recorded: Mapping[str, int] = msgspec.field(default_factory=dict)
    usage: Sequence[Usage] = ()

    def left_behind(self, before: "Figures | None") -> "Figures":
        """Return what counts for ever, now that the process is gone; with what is left of those before it."""
        several = (before, self) if before else (self,)
        usage = summed(used for each in several for used in each.usage)
        return Figures(0, metrics.left_behind([each.metrics for each in several]), usage=usage)


class Broken(msgspec.Struct, frozen=True, tag=True):
    """To a spool nothing more is to be appended, and why: it would not be sent, or not be durable."""

    folder: str
    why: str


class Leaving(msgspec.Struct, frozen=True, tag=True):
    """A process was told to end, and wants to be dismissed."""


Reply = Routed | Figures
Message = Post | Sends | Routes | Seen | Ask | Broken | Leaving | Reply

_encode = msgspec.msgpack.Encoder().encode
_decode: Callable[[bytes], Message] = msgspec.msgpack.Decoder(Message).decode


class Channel:
    """One end of the pair."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def over(cls, end: socket.socket) -> Self:
        """Return the channel over a connected socket, which it takes."""
        end.setblocking(False)
        return cls(*await asyncio.open_unix_connection(sock=end))

    def send(self, message: Message) -> None:
        """Send a message; if the other side is gone, nothing happens."""
        if not self._writer.is_closing():
            content = _encode(message)
            self._writer.write(_LENGTH.pack(len(content)) + content)

    async def receive(self) -> Message | None:
        """Return the next message; None when the other side is gone."""
        try:
            (length,) = _LENGTH.unpack(await self._reader.readexactly(_LENGTH.size))
            return _decode(await self._reader.readexactly(length))
        except (asyncio.IncompleteReadError, ConnectionError):
            return None

    def finish(self) -> None:
        """Let the other side know that nothing more is sent; what it says is still received."""
        if not self._writer.is_closing():
            self._writer.write_eof()

    def ask_to_leave(self) -> None:
        """Ask to be dismissed; who is not soon is alone from then on."""
        self.send(Leaving())
        asyncio.get_running_loop().call_later(_ALONE_S, self._writer.transport.abort)

    async def leave(self, last: Message) -> None:
        """Send a last message, and close; return when all that was sent has left, or the other side is gone."""
        self.send(last)
        self._writer.close()
        with suppress(ConnectionError):
            await self._writer.wait_closed()

    def close(self) -> None:
        """Let the other side know that this one is gone."""
        self._writer.close()
