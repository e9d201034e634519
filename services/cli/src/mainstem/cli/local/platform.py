"""The local platform as a library, `async with Platform(root) as platform`: the demo, the tests and `up` use it."""

import fcntl
import os
import shlex
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from mainstem.cli.local import graph, keys, launcher, ports, principals
from mainstem.cli.local.errors import AlreadyRunning, LocalError, NotRunning
from mainstem.cli.local.home import Home, write_private
from mainstem.cli.local.kafka import Kafka
from mainstem.cli.local.postgres import Postgres, given_database
from mainstem.cli.local.probes import answers_ready
from mainstem.cli.local.process import Process, Program, leashed
from mainstem.cli.local.state import Alive, PlatformState, ProcessState
from mainstem.cli.local.supervisor import Supervisor


def _ignore(_: PlatformState) -> None:
    """Observe nothing."""


class Platform:
    """Kafka, PostgreSQL and services on loopback, kept running by this process.

    Entering the context returns when everything answers; leaving it stops everything within five seconds. Data stays
    below `<root>/.mainstem`, so the next platform at this root goes on where this one stopped. `cache` holds the
    broker's jars and may be shared by many roots. A `fast` platform is for data that is thrown away: random ports, and
    a database that does not survive a power cut. With `MAINSTEM_DATABASE_URL` set, that server is used, none started.
    """

    def __init__(
        self,
        root: Path,
        *,
        fast: bool = False,
        services: Sequence[str] = tuple(graph.SERVICES),
        cache: Path | None = None,
        changed: Callable[[PlatformState], None] = _ignore,
    ) -> None:
        self.home = Home.at(root, cache)
        #: What a process needs in its environment to use the platform; filled by `start`, settled when all is ready.
        self.env: Mapping[str, str] = {}
        self._fast = fast
        self._services = graph.chosen(services)
        self._changed = changed
        self._lock: IO[str] | None = None
        self._supervisor: Supervisor | None = None
        self._ports = ports.Reservation({})

    async def __aenter__(self) -> Self:
        """Start everything and wait until it answers; whatever goes wrong meanwhile leaves nothing running."""
        async with AsyncExitStack() as started:
            started.push_async_callback(self.stop)
            self.start()
            await self.ready(*self.names)
            started.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop everything."""
        await self.stop()

    @property
    def names(self) -> tuple[str, ...]:
        """The processes of this platform, servers first."""
        return tuple(process.program.name for process in self._running.processes)

    def start(self) -> None:
        """Begin to start everything and return at once; raises AlreadyRunning when a supervisor holds the root."""
        self.home.create()
        self._take_lock()
        if left := PlatformState.read(self.home.state):
            left.clear_leftovers()
        defaults = graph.default_ports()
        self._ports = ports.Reservation(ports.anywhere(defaults) if self._fast else defaults)
        principals.ensure(self.home.principals)
        keys.ensure_all(self.home.keys)
        self._supervisor = Supervisor(self._programs(), self.home.logs, changed=self._tell, elsewhere=self._elsewhere)
        self._supervisor.start()

    async def stop(self) -> None:
        """Stop everything, services before servers; may be called twice."""
        if self._supervisor:
            await self._supervisor.stop()
            self._tell()
        self._ports.close()
        if self._lock:
            self._lock.close()
            self._lock = None

    async def wait(self) -> None:
        """Wait until nothing runs any more; raises what made the platform give up, a CrashLoop for one."""
        await self._running.wait()

    async def ready(self, *names: str) -> None:
        """Wait until these processes answer; raises what made the platform give up meanwhile."""
        await self._running.ready(*names)

    def kill(self, name: str) -> None:
        """End a process with SIGKILL, as a power cut would; it is started again and does not count as a crash."""
        self._running[name].kill()

    def pid(self, name: str) -> int:
        """Tell the process id of a process; raises NotRunning between its end and its next start."""
        pid = self._running[name].pid
        if pid is None:
            raise NotRunning(f"{name} does not run at the moment; wait with `ready({name!r})`")
        return pid

    def state(self) -> PlatformState:
        """How every process is now."""
        supervisor = Alive.of(os.getpid())
        assert supervisor is not None  # noqa: S101  (this process runs)
        failure = self._running.failure
        return PlatformState(
            supervisor=supervisor,
            processes=tuple(self._describe(process) for process in self._running.processes),
            failure=str(failure) if isinstance(failure, LocalError) else None,
        )

    @property
    def _running(self) -> Supervisor:
        if self._supervisor is None:
            raise NotRunning(f"the platform at {self.home.root} was not started")
        return self._supervisor

    def _take_lock(self) -> None:
        lock = (self.home.folder / "lock").open("w")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            raise AlreadyRunning(
                f"a platform runs at {self.home.root}; use it, or stop it with `mainstem down`"
            ) from None
        self._lock = lock

    def _elsewhere(self, lost: Collection[int]) -> list[Program]:
        self._ports.replace(lost)
        return self._programs()

    def _programs(self) -> list[Program]:
        kafka = Kafka(self.home, self._ports["kafka"], self._ports["kafka-controller"])
        programs = [kafka.program()]
        url = given_database(self.home)
        if url is None:
            postgres = Postgres(self.home, launcher.choose(self.home), self._ports["postgres"], self._fast)
            programs.append(postgres.program())
            url = postgres.url
        self.env = self._environment(kafka.bootstrap, url)
        self._write_env()
        there = {program.name for program in programs} | {service.name for service in self._services}
        return programs + [self._service(service, there) for service in self._services]

    def _environment(self, bootstrap: str, url: str) -> dict[str, str]:
        folder = self.home.folder
        return {
            "MAINSTEM_HOME": str(self.home.root),
            "MAINSTEM_KAFKA": bootstrap,
            "MAINSTEM_DATABASE_URL": url,
            "MAINSTEM_ARTIFACTS": str(folder / "artifacts"),
            "MAINSTEM_TRACES": str(folder / "traces"),
            "MAINSTEM_PRINCIPALS": str(self.home.principals),
            "MAINSTEM_LOG": str(folder / "log"),
            "MAINSTEM_WITNESS_STATE": str(folder / "witness"),
            **{name: str(file) for name, file in keys.files(self.home.keys).items()},
            "OMP_NUM_THREADS": "2",
            # ONNX Runtime would keep a device id in the user's home and report to its maker.
            "ORT_DISABLE_TELEMETRY": "1",
            "NUMBA_CACHE_DIR": str(self.home.cache / "numba"),
            **self._doors(),
        }

    def _doors(self) -> dict[str, str]:
        doors = {}
        for service in self._services:
            name = f"MAINSTEM_{service.name.upper()}"
            doors[f"{name}_URL"] = f"http://{ports.HOST}:{self._ports[service.name]}"
            if service.grpc:
                doors[f"{name}_GRPC"] = f"{ports.HOST}:{self._ports[f'{service.name}-grpc']}"
        return doors

    def _service(self, service: graph.Service, there: set[str]) -> Program:
        port = self._ports[service.name]
        doors = {"MAINSTEM_HTTP_PORT": str(port)}
        if service.grpc:
            doors["MAINSTEM_GRPC_PORT"] = str(self._ports[f"{service.name}-grpc"])
        return Program(
            name=service.name,
            argv=leashed(service.argv),
            env={**self.env, **doors},
            needs=tuple(need for need in service.needs if need in there),
            probe=lambda: answers_ready(port),
            ports=tuple(self._ports[name] for name in service.ports),
        )

    def _write_env(self) -> None:
        lines = (f"export {name}={shlex.quote(value)}\n" for name, value in self.env.items())
        write_private(self.home.env, "".join(lines))

    def _describe(self, process: Process) -> ProcessState:
        name = process.program.name
        return ProcessState(
            name=name,
            status=process.status,
            address=f"{ports.HOST}:{self._ports[name]}",
            restarts=process.restarts,
            run=Alive.of(process.pid) if process.pid else None,
        )

    def _tell(self) -> None:
        state = self.state()
        state.write(self.home.state)
        self._changed(state)
