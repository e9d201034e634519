"""The service behind the workers: it scores the stream, decides on deployments, and tells the workers."""

import asyncio
import socket
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from functools import partial

from mainstem.events.envelope import Event
from mainstem.events.fact import Fact
from mainstem.events.features import RowComputed
from mainstem.events.fence import Fence
from mainstem.events.registry import DeploymentSet, ProjectApplied
from mainstem.runtime import Resources, Task, consume, open_resources, restart_when, serve, steadily
from mainstem.serving import wire
from mainstem.serving.api import Api, error, metrics_of
from mainstem.serving.board import Board
from mainstem.serving.crew import Crew
from mainstem.serving.desk import Deployments
from mainstem.serving.domain import LogTime, Reached
from mainstem.serving.handlers import Stream, forever
from mainstem.serving.history import Past
from mainstem.serving.loader import Loader
from mainstem.serving.managed import Managed
from mainstem.serving.routes import Standing
from mainstem.serving.settings import Settings
from mainstem.serving.store import PostgresStore, apply
from mainstem.storage import Checkpoint, Transaction, load_checkpoint

#: Keeps what stands, for ever, where the next start finds it.
Keep = Callable[[Callable[[], Standing]], Coroutine[object, None, None]]

_CHECKPOINT_S = 1.0
_CONTROL = ["evt.registry.project", "evt.registry.model", "state.deployment"]


async def work(settings: Settings, crew: Crew, board: Board, keep: Keep, rest: socket.socket) -> None:
    """Open what the service stands on, however long that takes, and serve."""
    async with AsyncExitStack() as stack:
        opened = partial(open_resources, "serving", "mainstem.serving", settings)
        resources = await steadily(lambda: stack.enter_async_context(opened()))
        checkpoint = await steadily(lambda: load_checkpoint(resources.database))
        service = Service(resources, board, crew, checkpoint)
        await steadily(service.deployments.restore)
        resources.health.require("models", board.fault)
        resources.health.require("workers", crew.fault)
        pages = [metrics_of(crew), *Api(Managed(board, partial(used, crew), crew.faults)).routes()]
        await serve(resources, [*service.tasks(), lambda: keep(service.standing)], pages, at=rest, tell=error)


async def used(crew: Crew) -> list[dict[str, object]]:
    """Return what all workers did together, by version, as the protocol says it."""
    return [wire.used(each) for each in await crew.usage()]


class Service:
    """The part that follows the log."""

    def __init__(self, resources: Resources, board: Board, crew: Crew, checkpoint: Checkpoint) -> None:
        self.store = PostgresStore(resources.database)
        self._resources = resources
        self._board = board
        self._log = LogTime({place: Reached.load(state) for place, state in checkpoint.states.items()}, crew.see)
        crew.see(self._log.partitions)
        loader = Loader(resources.artifacts, board, self.store.record_loss, crew.warm)
        self._stream = Stream(board, loader, Fence(checkpoint.positions), self._log, resources.tracer)
        self.deployments = Deployments(self.store, board, loader, self._stream, Past(resources.settings.kafka))
        #: The topics to read may be others.
        self._changed = asyncio.Event()

    def standing(self) -> Standing:
        """Return what answers, and how far the log was seen."""
        return Standing.of(self._board, self._log)

    def tasks(self) -> list[Task]:
        """Return what is done all the time."""
        return [
            self._resources.relay,
            lambda: consume(self._resources, _CONTROL, self._on_fact),
            self.deployments.run,
            lambda: restart_when(self._changed, self._take_rows),
            lambda: forever(_CHECKPOINT_S, lambda: self._stream.checkpoint(self.store)),
        ]

    async def _on_fact(self, tx: Transaction, event: Event) -> None:
        await apply(tx, event)
        tx.after_commit.append(self.deployments.wake)
        if _reads_more(event.fact, self._board):
            tx.after_commit.append(self._changed.set)

    async def _take_rows(self) -> None:
        """Take the rows of every feature set that a model of a project in force, or a deployment of it, reads."""
        self._board.follow(await steadily(self.store.lookups))
        self._board.let_drop(await steadily(self.store.droppable))
        self._board.readers = await steadily(self.store.feature_topics)
        if not self._board.readers:
            return

        async def positions() -> dict[tuple[str, int], int]:
            return self._stream.offsets()

        bus = self._resources.bus
        subscription = bus.subscribe("serving", sorted(self._board.readers), positions)
        with self._resources.watch("rows", subscription):
            await subscription.run(lambda records: self._stream.on_records(records, publisher=bus.publisher))


def _reads_more(fact: Fact, board: Board) -> bool:
    """Tell whether the topics to read may be others after a fact."""
    if isinstance(fact, DeploymentSet):
        return fact.model not in board.readers.get(RowComputed.topic_of(fact.feature_set), ())
    return isinstance(fact, ProjectApplied)
