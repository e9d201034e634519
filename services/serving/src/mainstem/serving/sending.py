"""A spool, sent."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from mainstem.bus import Publisher
from mainstem.bus.spool import Tail, send
from mainstem.events.envelope import Message
from mainstem.events.fence import Position
from mainstem.runtime import steadily
from mainstem.serving.blocks import unpack
from mainstem.serving.domain import Tallies, spool_name
from mainstem.serving.ports import Progress, Store
from mainstem.storage import Checkpoint
from mainstem.telemetry import metrics


async def send_all(folder: Path, store: Store, publisher: Publisher, checkpoint: Checkpoint) -> None:
    """Send for ever what comes into a spool, and note in the store how far that is."""
    tail = Tail(folder)
    place, sent = (f"serving@{tail.incarnation}", 0), metrics.SENT.labels(spool_name(tail.incarnation))
    start = checkpoint.positions.get(place, Position()).next_offset
    sent.set(start)

    async def on_sent(messages: Sequence[Message], following: int) -> None:
        progress = Progress({place: Position(following)}, tallies=Tallies.of(messages))
        await steadily(lambda: store.save(progress))
        sent.set(following)

    await send(tail, partial(unpack, tail.incarnation), publisher, start, "serving", on_sent)
