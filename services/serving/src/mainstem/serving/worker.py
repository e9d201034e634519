"""A worker: a lean process that answers direct calls by what the service tells it, and records every answer.

It has no broker and no database. When the service is gone it answers what it has taken, and ends.
"""

import asyncio
import os
import signal
import socket
import sys
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack, closing
from dataclasses import replace
from http import HTTPStatus
from pathlib import Path
from typing import Final

import orjson
import uvloop

from mainstem.bus.spool import Spool, keep_synced
from mainstem.bus.spool_folder import SpoolCorrupt
from mainstem.direct import Door, Limits, Upstream, collect_seldom
from mainstem.inference.errors import NotReady
from mainstem.serving import grpc_fast
from mainstem.serving.answers import Answers
from mainstem.serving.batching import Batcher
from mainstem.serving.board import Board
from mainstem.serving.domain import LogTime, spool_name
from mainstem.serving.engine import BadSignature, Model
from mainstem.serving.files import room, take_all
from mainstem.serving.hot_api import OPERATED, HotApi
from mainstem.serving.lookups import Lookups
from mainstem.serving.managed import Answering
from mainstem.serving.meters import tell_ages, tell_away
from mainstem.serving.orders import Ask, Broken, Channel, Figures, Post, Routed, Routes, Seen
from mainstem.serving.paced import Paced
from mainstem.serving.reports import Reports
from mainstem.serving.rpc import Rpc
from mainstem.storage.artifacts import ArtifactCorrupt, ArtifactMissing, Artifacts
from mainstem.telemetry import Tracer, configure, logger, metrics

_GRACE_S: Final = 1.0
_STATISTICS: Final = "/v2/models/stats"

_log = logger(__name__)


class Worker:
    """What answers direct calls in one process."""

    def __init__(self, post: Post, spool: Spool, tracer: Tracer) -> None:
        self._post = post
        self._board, self._log = Board(), LogTime()
        self._lookups = Lookups(post.kafka, Path(post.lookups))
        self._artifacts = Artifacts(Path(post.artifacts))
        self._answers = Answers(self._board, self._log, spool, tracer, self._lookups)
        self._upstream = Upstream(post.upstream_host, post.upstream_port, OPERATED)
        #: One question at a time, however many wait for the answer.
        self._counted = Paced(self._ask_statistics, 0.0)
        self._spool = spool
        metrics.SPOOL_BYTES.labels(spool_name(spool.incarnation)).set_function(lambda: spool.size)

    async def listen(self, stack: AsyncExitStack) -> None:
        """Answer on both ports until the stack is closed; then only what was taken."""
        host, post = self._post.host, self._post
        batcher = Batcher(self._answers)
        models = Answering(self._board, self._statistics, batcher)
        rpc = Rpc(models, batcher, post.deadline_s)
        http = Limits()
        over_http, over_grpc = _connections(http.connections, grpc_fast.LIMITS.connections)
        if post.grpc_server == "fast":
            limits = replace(grpc_fast.LIMITS, connections=over_grpc)
            await stack.enter_async_context(grpc_fast.door(rpc, limits).listening(host, post.grpc_port))
        else:
            from mainstem.serving.grpc_api import GrpcApi  # noqa: PLC0415  (slow to import, and only for this)

            server, _ = await GrpcApi(rpc).start(f"{host}:{post.grpc_port}")
            stack.push_async_callback(server.stop, _GRACE_S)
        route = HotApi(models, batcher, post.deadline_s).route
        door = Door(route, self._upstream, replace(http, connections=over_http))
        await stack.enter_async_context(door.listening(host, post.http_port))

    async def shadow(self) -> None:
        """Score behind the answers for ever."""
        await self._answers.shadows.run()

    async def follow(self, channel: Channel, reports: Reports, stack: AsyncExitStack) -> None:
        """Do what the service says until it is gone; listen from the first routes on."""
        listening = False
        stack.push_async_callback(self._lookups.stop)
        while (message := await channel.receive()) is not None:
            match message:
                case Routes():
                    faults = await self._route(message)
                    if not listening:
                        await self.listen(stack)
                        listening = True
                        collect_seldom()
                    channel.send(Routed(message.serial, faults))
                case Seen():
                    self._log.see({(topic, number): reached for topic, number, reached in message.partitions})
                case Ask():
                    reports.reply(message.serial)
                case _:
                    raise ValueError(f"the service sent {message}")

    async def _route(self, routes: Routes) -> dict[str, str]:
        """Load what is missing, then answer by these routes; return by digest what could not be loaded, and why."""
        versions = [each for activation in routes.activations for each in activation.versions()]
        wanted = {each.onnx: len(each.features) for each in versions} | dict(routes.warm)
        for onnx, width in wanted.items():
            if not self._board.has(onnx):
                await self._load(onnx, width)
        self._board.let_drop(routes.droppable)
        self._board.swap(routes.activations)
        self._board.keep(wanted)
        read = {each.feature_definition for each in routes.activations}
        followed = {definition: each for definition, each in routes.lookups.items() if definition in read}
        self._board.follow(followed)
        self._lookups.want(followed)
        return {onnx: fault for onnx, fault in self._board.faults.items() if onnx in wanted}

    async def _load(self, onnx: str, width: int) -> None:
        try:
            model = await asyncio.to_thread(lambda: Model(self._artifacts.get(onnx), width))
        except (ArtifactMissing, ArtifactCorrupt, BadSignature) as fault:
            _log.error("not loaded: %s", fault, extra={"action": "not_loaded", "onnx": onnx})
            self._board.faults[onnx] = str(fault)
        else:
            self._board.load(onnx, model)

    def figures(self, serial: int) -> Figures:
        """Return what this process did, as the reply to a question."""
        live = self._board.last()
        tell_ages(self._lookups.ages(live))
        tell_away(self._lookups.away(live))
        recorded = {spool_name(self._spool.incarnation): self._spool.next_number}
        return Figures(serial, metrics.told(), recorded, self._answers.usage())

    async def _statistics(self) -> Sequence[Mapping[str, object]]:
        """Return what all workers did: the service has asked them."""
        return await self._counted.get()

    async def _ask_statistics(self) -> Sequence[Mapping[str, object]]:
        try:
            status, content = await self._upstream.get(_STATISTICS)
        except (OSError, TimeoutError) as fault:
            raise NotReady(f"the service that counts is away: {fault}; try again") from fault
        if status != HTTPStatus.OK:
            raise NotReady(f"the service that counts answers {status}; try again")
        found: Sequence[Mapping[str, object]] = orjson.loads(content)["model_stats"]
        return found


def _connections(*most: int) -> list[int]:
    """Allow this process as many open files as it may have; return how many connections each door may have.

    That is what is given as its most; where there are too few files for all, each has the same share of that. Raises
    TooFewFiles where there are none.
    """
    share = min(1.0, room() / sum(most))
    take_all()
    return [int(share * each) for each in most]


def _spool(post: Post) -> Spool:
    """Return the spool, or end with a code that says that it is broken: who started this one sets it aside."""
    try:
        return Spool(Path(post.spool), post.spool_bytes, sync_each=post.sync_each)
    except SpoolCorrupt as fault:
        _log.critical("the spool is broken: %s", fault, extra={"action": "spool_corrupt", "spool": post.spool})
        raise SystemExit(os.EX_DATAERR) from fault


async def _sync_or_leave(spool: Spool, folder: str, channel: Channel) -> None:
    """Keep what is recorded synced; when that fails, leave, and have the spool set aside: it takes nothing any more."""
    try:
        await keep_synced(spool)
    except SpoolCorrupt as fault:
        _log.critical("nothing more is recorded here: %s", fault, extra={"action": "spool_corrupt", "spool": folder})
        channel.send(Broken(folder, str(fault)))
        channel.ask_to_leave()


async def main(handle: int) -> None:
    """Serve until the service at the other end of the socket is gone, or SIGTERM comes."""
    channel = await Channel.over(socket.socket(fileno=handle))
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, channel.ask_to_leave)
    loop.add_signal_handler(
        signal.SIGINT, lambda: None
    )  # Ctrl-C is for the service; that it ends is told by the socket
    post = await channel.receive()
    if not isinstance(post, Post):
        return
    configure(post.log_level)
    tracer = Tracer(
        "serving",
        None if post.traces is None else Path(post.traces),
        part=f"worker-{post.number}",
        share=post.trace_share,
    )
    with closing(channel), closing(tracer), closing(_spool(post)) as spool:
        worker = Worker(post, spool, tracer)
        reports = Reports(channel, worker.figures)
        # A fault of what goes on behind the answers ends the process, which is started again: it is seen then.
        async with asyncio.TaskGroup() as group:
            behind = [
                group.create_task(_sync_or_leave(spool, post.spool, channel)),
                group.create_task(worker.shadow()),
                group.create_task(reports.run()),
            ]
            async with AsyncExitStack() as stack:
                await worker.follow(channel, reports, stack)
            for task in behind:
                task.cancel()
        await reports.end()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1])))
