"""The processes around the service: workers, which answer direct calls, and who sends what they record; see ADR 19."""

import asyncio
import os
import socket
from collections.abc import Callable, Collection, Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import Final

from typing_extensions import override

from mainstem.bus.spool_folder import SpoolBusy
from mainstem.serving.board import Board
from mainstem.serving.child import Child
from mainstem.serving.domain import Activation, Followed, Partition, Reached, Usage, summed
from mainstem.serving.orders import Ask, Broken, Figures, Message, Post, Reply, Routed, Routes, Seen, Sends
from mainstem.serving.paced import Paced
from mainstem.serving.settings import Settings
from mainstem.serving.spools import renew
from mainstem.telemetry import logger

#: Where the service answers what is no model's.
LOCAL: Final = "127.0.0.1"
WORKER: Final = "mainstem.serving.worker"
SENDER: Final = "mainstem.serving.sender"

#: Who asks for figures waits so long for a process, and processes say them no more often than this.
_SOON_S, _EACH_S = 2.0, 0.2
#: A process that does not say what it was asked gets this long.
_SILENT_S = 60.0
#: Workers have so long to answer before anything else is loaded.
_BEGUN_S = 2.0
#: Whoever loads a model waits so long for a worker that is being started.
_BACK_S = 10.0
#: Between the end of a process and its next start; one that lived for so long begins at the shortest again.
_SHORTEST_S, _LONGEST_S, _LIVED_S = 0.05, 5.0, 10.0
#: Workers of a service that was killed have so long to leave.
_LEAVING_S, _POLL_S = 10.0, 0.05
#: A model that a worker could not load is tried again after this long.
_AGAIN_S = 1.0

_log = logger(__name__)


def posts(settings: Settings, upstream_port: int) -> list[Post]:
    """Return what each worker has to know; what is no model's is answered at a port of this machine."""
    return [
        Post(
            number=number,
            host=settings.http_host,
            http_port=settings.http_port,
            grpc_port=settings.grpc_port,
            grpc_server=settings.grpc_server,
            upstream_host=LOCAL,
            upstream_port=upstream_port,
            spool=str(settings.spool_folder / str(number)),
            spool_bytes=settings.spool_bytes // settings.serving_workers,
            sync_each=settings.spool_sync == "each",
            deadline_s=settings.serving_deadline_ms / 1000,
            artifacts=str(settings.artifacts),
            kafka=settings.kafka,
            lookups=str(settings.lookup_folder / str(number)),
            traces=None if settings.traces is None else str(settings.traces),
            trace_share=settings.trace_share,
            log_level=settings.log_level,
        )
        for number in range(settings.serving_workers)
    ]


async def vacant(host: str, *ports: int, within_s: float = _LEAVING_S) -> None:
    """Return when nobody listens on these ports; workers would share them. Raises OSError when somebody goes on."""
    until = asyncio.get_running_loop().time() + within_s
    for port in ports:
        while True:
            try:
                with socket.socket() as probe:
                    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    probe.bind((host, port))
                    break
            except OSError as fault:
                if asyncio.get_running_loop().time() > until:
                    raise OSError(fault.errno, f"{host}:{port} is taken by another process; end it") from fault
            await asyncio.sleep(_POLL_S)


class Crew:
    """Tells all workers the same: what answers, and how far the log was seen."""

    def __init__(self, posts: Sequence[Post], module: str = WORKER, sends: Sends | None = None) -> None:
        self._workers = [_Worker(post, module) for post in posts]
        #: Who sends what they record.
        self._senders = [_Sender(sends, self._on_broken)] if sends else []
        self._all: Sequence[Child] = (*self._workers, *self._senders)
        self._serials = count(1)
        self._figures = Paced(self._ask_figures, _EACH_S)
        self._activations: Sequence[Activation] = ()
        self._lookups: Mapping[str, Followed] = {}
        #: What is loaded besides, by digest its width: what answered before, and what is to answer soon.
        self._before: Mapping[str, int] = {}
        self._warm: dict[str, int] = {}
        self._droppable: Collection[str] = ()
        self._routes = Routes(0, (), {})
        self._seen: dict[Partition, Reached] = {}
        self._unsaid: dict[Partition, Reached] = {}

    async def run(self) -> None:
        """Keep all running until cancelled; then the workers answer what they have taken, and all end."""
        async with asyncio.TaskGroup() as group:
            for worker in self._workers:
                group.create_task(self._keep(worker))
            group.create_task(self._repair())
            group.create_task(self._watch())
            await self.begun()
            for sender in self._senders:
                group.create_task(self._keep(sender))

    async def begun(self, within_s: float = _BEGUN_S) -> None:
        """Return when every worker answers, or a moment has passed: until then the processor is for them."""
        answering = [asyncio.create_task(worker.answering.wait()) for worker in self._workers]
        try:
            await asyncio.wait(answering, timeout=within_s)
        finally:
            for task in answering:
                task.cancel()

    def route(self, board: Board) -> None:
        """Have answer from now on what answers by a board; what answered before stays loaded."""
        self._activations = tuple(board.last())
        self._lookups = board.lookups
        self._droppable = sorted(board.droppable)
        self._before = {activation.onnx: len(activation.features) for activation in board.before()}
        self._tell()

    async def warm(self, onnx: str, width: int) -> str | None:
        """Have every worker load a model; return which could not and why, or None when all have it.

        One that is being started is waited for; one that ends over it has not loaded it.
        """
        await self.begun(_BACK_S)
        self._warm[onnx] = width
        try:
            told = await asyncio.gather(*self._tell())
        finally:
            del self._warm[onnx]
        lacking = [(worker.name, _lacks(said, onnx)) for worker, said in zip(self._workers, told, strict=True)]
        faults = [f"{name}: {why}" for name, why in lacking if why is not None]
        if faults:
            self._tell()  # whoever begins anew is not to load it again
        return "; ".join(faults) or None

    def see(self, partitions: Mapping[Partition, Reached]) -> None:
        """Tell how far partitions were seen, once in a turn of the loop."""
        news = {place: reached for place, reached in partitions.items() if self._seen.get(place) != reached}
        if news and not self._unsaid:
            asyncio.get_running_loop().call_soon(self._say_seen)
        self._unsaid.update(news)

    def fault(self) -> str | None:
        """Tell why no worker answers, or which model one of them could not load; None when all is well."""
        faults = [f"{worker.name}: {why}" for worker in self._workers for why in set(self._lacking(worker).values())]
        if not any(worker.serial for worker in self._workers):
            faults.append("no worker answers yet; see serving's log if it stays so")
        return "; ".join(faults) or None

    def faults(self) -> Mapping[str, str]:
        """Tell by digest which model that is to answer a worker could not load, and why."""
        return {onnx: why for worker in self._workers for onnx, why in self._lacking(worker).items()}

    def _lacking(self, worker: "_Worker") -> Mapping[str, str]:
        """Return why a worker could not load what is to answer; what answered before does not count."""
        wanted = {each.onnx for activation in self._activations for each in activation.versions()}
        return {onnx: why for onnx, why in worker.faults.items() if onnx in wanted}

    async def figures(self) -> list[Figures]:
        """Return what each process did, and what those did that were in its place before.

        Of one that does not answer soon it is what it said last. They are asked five times a second at most: who comes
        sooner waits, and what they say then is given to all who waited, as the same list.
        """
        return await self._figures.get()

    async def _ask_figures(self) -> list[Figures]:
        asked = [child.ask(Ask(next(self._serials))) for child in self._all]
        await asyncio.wait(asked, timeout=_SOON_S)
        return [each for child in self._all for each in (child.figures, child.before) if each is not None]

    async def usage(self) -> list[Usage]:
        """Return what all workers did together, by version."""
        return summed(used for figures in await self.figures() for used in figures.usage)

    def _tell(self) -> "Sequence[asyncio.Future[Reply | None]]":
        warm = {**self._before, **self._warm}
        self._routes = Routes(next(self._serials), self._activations, warm, self._lookups, self._droppable)
        return [worker.ask(self._routes) for worker in self._workers]

    def _say_seen(self) -> None:
        unsaid, self._unsaid = self._unsaid, {}
        self._seen.update(unsaid)
        for worker in self._workers:
            worker.tell(_seen(unsaid))

    async def _keep(self, child: Child) -> None:
        """Start a process whenever it has ended."""
        loop, pause_s = asyncio.get_running_loop(), _SHORTEST_S
        while True:
            began = loop.time()
            code = await self._live(child)
            await asyncio.sleep(pause_s)
            if isinstance(child, _Worker) and (child.broken or code == os.EX_DATAERR):
                while not await self._renew(child):  # noqa: ASYNC110  (nothing tells when a disk takes it)
                    await asyncio.sleep(_LONGEST_S)
            pause_s = _SHORTEST_S if loop.time() - began > _LIVED_S else min(2 * pause_s, _LONGEST_S)

    async def _live(self, child: Child) -> int | None:
        """Start a process; return its exit code when it has ended, None when it could not be started."""
        try:
            code = await child.live(self._news)
        except OSError as fault:
            about: dict[str, object] = {"action": "process_not_started", "child": child.name}
            _log.error("%s could not be started: %s; that is tried again", child.name, fault, extra=about)
            return None
        about = {"action": "process_ended", "child": child.name, "code": code}
        _log.error("%s ended with code %d; it is started again", child.name, code, extra=about)
        return code

    def _on_broken(self, said: Broken) -> None:
        """Have a worker end whose spool is broken: what it records there would never be sent."""
        for worker in self._workers:
            if worker.spool == said.folder:
                worker.give_up(said.why)

    async def _renew(self, worker: "_Worker") -> bool:
        """Give a worker that has ended another spool if its own is broken; what can be sent of that one is sent.

        Return whether it may begin: not in a broken one.
        """
        why = worker.broken
        try:
            aside = await renew(Path(worker.spool), why)
        except (OSError, SpoolBusy) as fault:  # the others go on
            about = {"action": "spool_kept", "spool": worker.spool}
            _log.critical(
                "the broken spool %s could not be set aside: %s; that is tried again", worker.spool, fault, extra=about
            )
            return False
        if aside is None and worker.broken != why:  # it was called broken while it was looked at
            return False
        worker.broken = None
        if why is not None or aside is not None:
            for sender in self._senders:
                sender.begin_anew(aside)
        return True

    def _news(self) -> list[Message]:
        """Return what a process that begins is told; the sender does not mind."""
        return [self._routes, _seen(self._seen)]

    async def _repair(self) -> None:
        """Have tried again what could not be loaded."""
        while True:
            await asyncio.sleep(_AGAIN_S)
            if any(map(self._lacking, self._workers)):
                self._tell()

    async def _watch(self) -> None:
        """Kill a process that says nothing any more: it is started again."""
        while True:
            await asyncio.sleep(_SILENT_S)
            asked = {child.ask(Ask(next(self._serials))): child for child in self._all}
            _, unanswered = await asyncio.wait(asked, timeout=_SILENT_S)
            for child in map(asked.__getitem__, unanswered):
                _log.critical("%s says nothing", child.name, extra={"action": "process_wedged"})
                child.kill()


def _lacks(said: Reply | None, onnx: str) -> str | None:
    """Return why a worker that said this has not loaded a model, or None when it has."""
    if isinstance(said, Routed):
        return said.faults.get(onnx)
    return "it ended before it had loaded the model; see serving's log"


def _seen(partitions: Mapping[Partition, Reached]) -> Seen:
    return Seen([(*place, reached) for place, reached in partitions.items()])


class _Sender(Child):
    """Who sends; `on_broken` is called when it says of a spool that it cannot be sent."""

    def __init__(self, sends: Sends, on_broken: Callable[[Broken], None]) -> None:
        super().__init__("sender", SENDER, sends)
        self._folders = list(sends.folders)
        self._on_broken = on_broken

    @override
    def take(self, said: Message) -> None:
        if isinstance(said, Broken) and not self.dismissed:  # else it may be of what lay where another lies now
            self._on_broken(said)
        super().take(said)

    def begin_anew(self, aside: Path | None) -> None:
        """Begin anew, since a spool that could not be sent is another now; with what was set aside of it."""
        self._folders += [] if aside is None else [str(aside)]
        self.hello = Sends(self._folders)
        self.dismiss()


class _Worker(Child):
    """A worker, and what it said of the routes."""

    def __init__(self, post: Post, module: str) -> None:
        super().__init__(f"worker {post.number}", module, post)
        self.spool = post.spool
        #: Why nothing more can be sent of its spool, if somebody said so.
        self.broken: str | None = None
        #: Serial of the routes it answers by, 0 while it does not answer; what it could not load, by digest.
        self.serial = 0
        self.faults: Mapping[str, str] = {}
        self.answering = asyncio.Event()

    def give_up(self, why: str) -> None:
        """Have it end, since of what it records no more can be sent."""
        if self.broken is None:
            self.broken = why
            self.dismiss()

    @override
    def take(self, said: Message) -> None:
        if isinstance(said, Broken):
            self.give_up(said.why)
        if isinstance(said, Routed):
            self.serial, self.faults = said.serial, said.faults
            self.answering.set()
        super().take(said)

    @override
    def lose(self) -> None:
        self.serial, self.faults = 0, {}
        self.answering.clear()
        super().lose()
