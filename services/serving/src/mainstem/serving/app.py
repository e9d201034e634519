"""Serving, put together."""

import asyncio
from collections.abc import Sequence
from contextlib import closing
from functools import partial

from mainstem.bus.spool import Spool, Tail, keep_synced, send
from mainstem.events.envelope import Event, Fact, Message
from mainstem.events.features import RowComputed
from mainstem.events.fence import Fence, Position
from mainstem.events.registry import DeploymentSet, ProjectApplied
from mainstem.runtime import Resources, consume, open_resources, restart_when, run, serve, steadily
from mainstem.serving.answers import Answers
from mainstem.serving.api import Api
from mainstem.serving.batching import Batcher
from mainstem.serving.blocks import unpack
from mainstem.serving.desk import Deployments
from mainstem.serving.domain import LogTime, Reached, Tallies
from mainstem.serving.engine import Board
from mainstem.serving.grpc_api import GrpcApi
from mainstem.serving.handlers import Stream, forever
from mainstem.serving.history import Past
from mainstem.serving.hot_api import HotApi
from mainstem.serving.loader import Loader
from mainstem.serving.ports import Progress
from mainstem.serving.settings import Settings
from mainstem.serving.store import PostgresStore, apply
from mainstem.storage import Transaction, load_checkpoint
from mainstem.telemetry import metrics

_CHECKPOINT_S = 1.0
_CONTROL = ["evt.registry.project", "evt.registry.model", "state.deployment"]


async def main() -> None:
    """Run the service until it is stopped."""
    settings = Settings()
    async with open_resources("serving", "mainstem.serving", settings) as resources:
        folder, sync_each = settings.spool_folder, settings.spool_sync == "each"
        with closing(Spool(folder, settings.spool_bytes, sync_each=sync_each)) as spool:
            await work(resources, spool, Tail(folder), settings.grpc_port)


async def work(resources: Resources, spool: Spool, tail: Tail, grpc_port: int) -> None:
    """Wire the parts and run them."""
    store, board = PostgresStore(resources.database), Board()
    checkpoint = await steadily(lambda: load_checkpoint(resources.database))
    log = LogTime({place: Reached.load(state) for place, state in checkpoint.states.items()})
    loader = Loader(resources.artifacts, board, store.record_loss)
    stream = Stream(board, loader, Fence(checkpoint.positions), log, resources.tracer)
    deployments = Deployments(store, board, loader, stream, Past(resources.settings.kafka))
    answers = Answers(board, log, spool, resources.health.faults, resources.tracer)
    sent = checkpoint.positions.get((f"serving@{spool.incarnation}", 0), Position()).next_offset
    changed = asyncio.Event()

    async def on_fact(tx: Transaction, event: Event) -> None:
        await apply(tx, event)
        tx.after_commit.append(deployments.wake)
        if _reads_more(event.fact, board):
            tx.after_commit.append(changed.set)

    async def on_sent(messages: Sequence[Message], following: int) -> None:
        place = (f"serving@{spool.incarnation}", 0)
        progress = Progress({place: Position(following)}, tallies=Tallies.of(messages))
        await steadily(lambda: store.save(progress))
        metrics.SENT.set(following)

    await steadily(deployments.restore)
    resources.health.require("models", loader.fault)
    metrics.SPOOL_BYTES.set_function(lambda: spool.size)
    metrics.RECORDED.set_function(lambda: spool.next_number)
    metrics.SENT.set(sent)
    unpacked = partial(unpack, spool.incarnation)
    await serve(
        resources,
        tasks=[
            resources.relay,
            lambda: consume(resources, _CONTROL, on_fact),
            deployments.run,
            lambda: restart_when(changed, lambda: take_rows(resources, store, board, stream)),
            lambda: forever(_CHECKPOINT_S, lambda: stream.checkpoint(store)),
            lambda: keep_synced(tail),
            lambda: send(tail, unpacked, resources.bus.publisher, sent, "serving", on_sent),
            lambda: GrpcApi(answers).listen(resources.settings.http_host, grpc_port),
        ],
        routes=Api(answers).routes(),
        hot=HotApi(answers, Batcher(answers)).route,
    )


def _reads_more(fact: Fact, board: Board) -> bool:
    """Tell whether the topics to read may be others after a fact."""
    if isinstance(fact, DeploymentSet):
        return fact.model not in board.readers.get(RowComputed.topic_of(fact.feature_set), ())
    return isinstance(fact, ProjectApplied)


async def take_rows(resources: Resources, store: PostgresStore, board: Board, stream: Stream) -> None:
    """Take the rows of every feature set that a model of a project in force, or a deployment of it, reads."""
    board.readers = await steadily(store.feature_topics)
    if not board.readers:
        return

    async def positions() -> dict[tuple[str, int], int]:
        return stream.offsets()

    subscription = resources.bus.subscribe("serving", sorted(board.readers), positions)
    with resources.watch("rows", subscription):
        await subscription.run(lambda records: stream.on_records(records, publisher=resources.bus.publisher))


if __name__ == "__main__":
    run(main)
