"""The control plane's discipline: positions, state and outgoing events in one transaction."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Hashable, Mapping, Sequence

from mainstem.events.catalogue import decode
from mainstem.events.envelope import Event
from mainstem.events.errors import Rejected
from mainstem.events.fence import Fence
from mainstem.events.record import Record
from mainstem.runtime.process import steadily
from mainstem.runtime.service import Resources
from mainstem.storage import Transaction, load_checkpoint
from mainstem.telemetry import logger, metrics

Handle = Callable[[Transaction, Event], Awaitable[None]]
#: What a piece of work stands on, to be compared with `==`, and the work.
Piece = tuple[object, Callable[[], Coroutine[object, None, None]]]

_log = logger(__name__)


async def consume(resources: Resources, topics: Sequence[str], handle: Handle, *, name: str = "control") -> None:
    """Give every event of `topics` to `handle` once, for ever; a record that is no event or is rejected is parked.

    `handle` writes state and appends events through the transaction it is given, and nothing anywhere else: what it
    raises as Unavailable or Conflict rolls back and is tried again from the first record of the batch;
    what it raises as Rejected undoes its own work and parks the event.
    """

    async def positions() -> Mapping[tuple[str, int], int]:
        checkpoint = await steadily(lambda: load_checkpoint(resources.database))
        return {place: position.next_offset for place, position in checkpoint.positions.items()}

    async def on_batch(records: Sequence[Record]) -> None:
        await steadily(lambda: _apply(resources, records, handle))

    subscription = resources.bus.subscribe(f"{resources.name}-{name}", topics, positions)
    with resources.watch(name, subscription):
        await subscription.run(on_batch)


async def _apply(resources: Resources, records: Sequence[Record], handle: Handle) -> None:
    async with resources.database.transaction() as tx:
        for record in await tx.admit(records):
            metrics.RECORDS.labels(record.topic).inc()
            try:
                event = decode(record)
                async with tx.savepoint():
                    await handle(tx, event)
            except Rejected as fault:
                _log.error("parked: %s", fault, extra={"action": "parked"})
                metrics.PARKED.labels(record.topic).inc()
                await tx.park(record, str(fault))


async def load_fence(resources: Resources, topics: Sequence[str]) -> Fence:
    """Return the fence of a data-plane reader of `topics` as it was stored last."""
    checkpoint = await steadily(lambda: load_checkpoint(resources.database))
    return Fence({place: position for place, position in checkpoint.positions.items() if place[0] in topics})


async def restart_when(changed: asyncio.Event, work: Callable[[], Coroutine[object, None, None]]) -> None:
    """Run `work`; each time `changed` is set, cancel it and run it anew. Its state must be reloaded from the store."""
    while True:
        changed.clear()
        async with asyncio.TaskGroup() as group:
            running = group.create_task(work())
            await changed.wait()
            running.cancel()


async def keep_running(changed: asyncio.Event, wanted: Callable[[], Awaitable[Mapping[Hashable, Piece]]]) -> None:
    """Run the pieces that are `wanted`, by name, for ever; each time `changed` is set, ask again.

    A piece that is not wanted any more, or stands on something else, is cancelled and has ended before anything new
    begins. The others go on undisturbed. A piece that returns is not run again; what one raises, this raises.
    """
    running: dict[Hashable, tuple[object, asyncio.Task[None]]] = {}
    async with asyncio.TaskGroup() as group:
        while True:
            changed.clear()
            due = await wanted()
            over = [name for name, (basis, _) in running.items() if name not in due or due[name][0] != basis]
            ending = [running.pop(name)[1] for name in over]
            for task in ending:
                task.cancel()
            if ending:
                await asyncio.wait(ending)
            for name, (basis, work) in due.items():
                if name not in running:
                    running[name] = basis, group.create_task(work())
            await changed.wait()
