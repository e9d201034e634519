"""What answers, kept in a file: so that it answers again at the next start, whoever else is away."""

import asyncio
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Self

import msgspec

from mainstem.serving.board import Board
from mainstem.serving.domain import Activation, Followed, LogTime, Partition, Reached
from mainstem.telemetry import logger

_KEEP_S = 1.0

_log = logger(__name__)


class Standing(msgspec.Struct, frozen=True):
    """The activations as they stood last, for each model in order, how far the log was seen, and what may drop."""

    activations: Sequence[Activation] = ()
    partitions: Sequence[tuple[str, int, Reached]] = ()
    lookups: Mapping[str, Followed] = {}
    droppable: Sequence[str] = ()

    @classmethod
    def of(cls, board: Board, log: LogTime) -> Self:
        """Return what stands now."""
        reached = [(*place, reached) for place, reached in log.partitions.items()]
        return cls(board.all(), reached, board.lookups, sorted(board.droppable))

    @property
    def reached(self) -> dict[Partition, Reached]:
        """Return how far each partition was seen."""
        return {(topic, number): reached for topic, number, reached in self.partitions}


def load(file: Path) -> Standing:
    """Return what was saved; nothing when there is no file, or none that can be read."""
    try:
        return msgspec.msgpack.decode(file.read_bytes(), type=Standing)
    except FileNotFoundError:
        return Standing()
    except (OSError, msgspec.MsgspecError) as fault:
        _log.warning("the routes in %s are not read: %s; they come from the database", file, fault)
        return Standing()


def save(file: Path, standing: Standing) -> None:
    """Replace what was saved, at once and durably. Raises OSError."""
    partial = file.with_name(f"{file.name}.new")
    with partial.open("wb") as out:
        out.write(msgspec.msgpack.encode(standing))
        out.flush()
        os.fsync(out.fileno())
    partial.replace(file)


async def keep(file: Path, standing: Callable[[], Standing], changed: asyncio.Event) -> None:
    """Save what stands for ever: soon after it is said to have changed, and once a second."""
    saved = Standing()
    while True:
        with suppress(TimeoutError):
            async with asyncio.timeout(_KEEP_S):
                await changed.wait()
        changed.clear()
        found = standing()
        if found == saved:
            continue
        try:
            await asyncio.to_thread(save, file, found)
        except OSError as fault:
            _log.warning("the routes were not saved: %s; free space on the disk", fault, extra={"action": "not_saved"})
        else:
            saved = found
