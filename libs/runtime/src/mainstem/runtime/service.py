"""The service: open resources, run tasks until a signal or the first fault, leave no task behind."""

import asyncio
import signal
import socket
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Protocol

from starlette.routing import BaseRoute

from mainstem.auth import Principals
from mainstem.bus import Partition, Subscription, relay
from mainstem.bus.kafka import KafkaBus
from mainstem.direct import collect_seldom
from mainstem.events.topics import fixed
from mainstem.runtime.health import Health
from mainstem.runtime.http import Tell, application, listen, problem
from mainstem.runtime.process import steadily
from mainstem.runtime.settings import ServiceSettings
from mainstem.storage import Artifacts, Database, Outbox, open_database
from mainstem.telemetry import Tracer, configure, logger, metrics

_log = logger(__name__)

Task = Callable[[], Coroutine[object, None, None]]


@dataclass(frozen=True, slots=True)
class Resources:
    """What a service stands on."""

    name: str
    settings: ServiceSettings
    bus: KafkaBus
    database: Database
    artifacts: Artifacts
    principals: Principals
    tracer: Tracer
    health: Health = field(default_factory=Health)

    @contextmanager
    def watch(self, name: str, subscription: Subscription) -> Iterator[None]:
        """Be ready, while the block runs, only with partitions to read, and show how far the reading is behind."""
        known_as = f"subscription {name}"
        self.health.require(known_as, lambda: None if subscription.assigned() else "no partitions yet")

        shown: set[Partition] = set()

        def show(lag: Mapping[Partition, int]) -> None:
            for topic, partition in shown - lag.keys():
                metrics.LAG.remove(topic, str(partition))
            for (topic, partition), behind in lag.items():
                metrics.LAG.labels(topic, partition).set(behind)
            shown.clear()
            shown.update(lag)

        self.health.every_tick(known_as, lambda: show(subscription.lag()))
        try:
            yield
        finally:
            self.health.forget(known_as)
            show({})

    async def relay(self) -> None:
        """Publish the outbox for ever."""
        await steadily(lambda: relay(Outbox(self.database, self.name), self.bus.publisher))


@asynccontextmanager
async def open_resources(
    name: str, package: str, settings: ServiceSettings, *, role: str | None = None
) -> AsyncIterator[Resources]:
    """Open broker, database and stores of the service `name`; close them in reverse order.

    In the database it acts as `role` once that is up to date, if it has one of its own.
    The topics that exist before any project does are created here, so that services may start in any order.
    Raises Unavailable when the database or the broker does not answer within a minute.
    """
    configure(settings.log_level)
    database = await open_database(settings.database_url, name, package, role=role)
    tracer = Tracer(name, settings.traces)
    principals = Principals.parse(settings.principals.read_text() if settings.principals else "[]")
    try:
        async with KafkaBus(settings.kafka, f"mainstem-{name}", settings.instance) as bus:
            await bus.create(fixed())
            artifacts = Artifacts(settings.artifacts)
            yield Resources(name, settings, bus, database, artifacts, principals, tracer)
    finally:
        tracer.close()
        await database.close()


class Listening(Protocol):
    """Where a process answers HTTP."""

    @property
    def http_host(self) -> str:
        """Return the address to listen on."""

    @property
    def http_port(self) -> int:
        """Return the port."""


class Served(Protocol):
    """A process that answers HTTP."""

    @property
    def name(self) -> str:
        """Return what it is called."""

    @property
    def settings(self) -> Listening:
        """Return where it listens."""

    @property
    def health(self) -> Health:
        """Return what it needs to be ready."""


async def serve(
    served: Served,
    tasks: Sequence[Task],
    routes: Sequence[BaseRoute] = (),
    *,
    at: socket.socket | None = None,
    tell: Tell = problem,
) -> None:
    """Run the HTTP server and all tasks until SIGTERM or SIGINT, or until one of them fails; then stop them all.

    It listens on the socket `at`, which is bound, or else where the settings say; errors are answered as `tell` does.
    """
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    collect_seldom()
    app = application(served.health, routes, tell)
    settings = served.settings
    async with asyncio.TaskGroup() as group:
        running = [group.create_task(task()) for task in (served.health.tick, *tasks)]
        running.append(group.create_task(listen(app, settings.http_host, settings.http_port, at)))
        _log.info("started", extra={"action": "started", "service": served.name})
        await stop.wait()
        for task in running:
            task.cancel()
