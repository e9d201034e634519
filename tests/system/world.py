"""A running platform as its users have it: the command line, HTTP with tokens, Kafka's stock clients."""

import asyncio
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import httpx
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.structs import ConsumerRecord

from mainstem.bus.records import read_every_record
from mainstem.cli.local.graph import SERVICES
from mainstem.cli.local.platform import Platform

CHECKOUT = Path(__file__).parents[2]
HARBOUR = Path(__file__).with_name("harbour")
PATIENCE_S = 30

Headers = Sequence[tuple[str, bytes | None]]


@dataclass(frozen=True)
class Sent:
    """A record for a source topic, as a CloudEvent unless other headers are given."""

    value: bytes | None
    key: bytes | None = b"north"
    headers: Headers = ()


def fact(record: ConsumerRecord) -> dict[str, Any]:
    """Return the payload of an event; nothing for what is none."""
    try:
        found = json.loads(record.value or b"")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def headers(record: ConsumerRecord) -> dict[str, str]:
    """Return the headers of an event as text."""
    return {name: (value or b"").decode(errors="replace") for name, value in record.headers}


def place(record: ConsumerRecord) -> str:
    """Return `topic/partition/offset`."""
    return f"{record.topic}/{record.partition}/{record.offset}"


class Follower:
    """Reads a topic from its beginning; `records` holds what was read."""

    def __init__(self, consumer: AIOKafkaConsumer) -> None:
        self._consumer = consumer
        self.records: list[ConsumerRecord] = []

    async def until(self, found: Callable[[ConsumerRecord], bool], what: str, count: int = 1) -> list[ConsumerRecord]:
        """Return the records that `found` accepts as soon as there are `count` of them."""
        chosen: list[ConsumerRecord] = []
        try:
            async with asyncio.timeout(PATIENCE_S):
                while len(chosen := list(filter(found, self.records))) < count:
                    await self._look()
        except TimeoutError as fault:
            raise TimeoutError(f"{what}: {len(chosen)} of {count} came within {PATIENCE_S} s") from fault
        return chosen

    async def all(self) -> list[ConsumerRecord]:
        """Return everything that stands in the topic now."""
        ends = await self._consumer.end_offsets(self._consumer.assignment())
        async with asyncio.timeout(PATIENCE_S):
            while any([await self._consumer.position(tp) < end for tp, end in ends.items()]):
                await self._look()
        return self.records

    async def _look(self) -> None:
        for batch in (await self._consumer.getmany(timeout_ms=100)).values():
            self.records += batch


@dataclass
class World:
    """One platform, and what was sent to it."""

    platform: Platform
    http: httpx.AsyncClient
    producer: AIOKafkaProducer
    followers: dict[str, Follower] = field(default_factory=dict)
    #: Notes of the good records by source.
    good: dict[str, list[str]] = field(default_factory=dict)
    #: Where the bad records stand.
    bad: list[str] = field(default_factory=list)

    @cached_property
    def tokens(self) -> dict[str, str]:
        """Return the tokens by principal."""
        return {line["name"]: line["token"] for line in json.loads(self.platform.home.principals.read_text())}

    @property
    def env(self) -> Mapping[str, str]:
        """Return what a process needs to find the platform."""
        return self.platform.env

    async def run(self, *arguments: object) -> subprocess.CompletedProcess[str]:
        """Run the command line."""
        command = [str(Path(sys.executable).parent / "mainstem"), *map(str, arguments)]
        env = {**os.environ, **self.env, "COLUMNS": "200"}

        def call() -> subprocess.CompletedProcess[str]:
            return subprocess.run(command, env=env, capture_output=True, text=True, check=False, timeout=PATIENCE_S)

        return await asyncio.to_thread(call)

    async def apply(self, project: Path) -> None:
        """Apply a project as of the first day that is replayed."""
        applied = await self.run("project", "apply", project, "--at", "2024-03-01T00:00:00Z")
        assert applied.returncode == 0, applied.stderr

    async def get(self, service: str, path: str) -> httpx.Response:
        """Ask a service."""
        return await self.http.get(self.env[f"MAINSTEM_{service.upper()}_URL"] + path)

    async def post(self, service: str, path: str, *, by: str = "operator", **request: Any) -> httpx.Response:
        """Give a command to a service in the name of a principal."""
        url = self.env[f"MAINSTEM_{service.upper()}_URL"] + path
        return await self.http.post(
            url, **{**request, "headers": {"authorization": f"Bearer {self.tokens[by]}", **request.get("headers", {})}}
        )

    async def send(self, topic: str, *records: Sent) -> list[str]:
        """Produce records and return where they stand."""
        waiting = [
            await self.producer.send(topic, record.value, key=record.key, headers=list(record.headers))
            for record in records
        ]
        found = await asyncio.gather(*waiting)
        return [f"{topic}/{there.partition}/{there.offset}" for there in found]

    async def follow(self, topic: str) -> Follower:
        """Return the one follower of a topic."""
        if topic not in self.followers:
            read_every_record()
            consumer = AIOKafkaConsumer(
                topic,
                bootstrap_servers=self.env["MAINSTEM_KAFKA"],
                auto_offset_reset="earliest",
                enable_auto_commit=False,
                fetch_max_wait_ms=50,
            )
            await consumer.start()
            self.followers[topic] = Follower(consumer)
        return self.followers[topic]

    async def event(self, topic: str, what: str, **wanted: object) -> ConsumerRecord:
        """Return the first event whose payload has these fields."""
        follower = await self.follow(topic)
        found = await follower.until(lambda record: wanted.items() <= fact(record).items(), what)
        return found[0]

    async def accepted(self, source: str, *notes: str) -> None:
        """Return when the records with these notes are accepted; each must have been once."""
        follower = await self.follow(f"evt.data.{source}")
        found = await follower.until(lambda record: note_of(record) in notes, f"records of {source}", len(notes))
        assert Counter(map(note_of, found)) == dict.fromkeys(notes, 1)

    async def quarantined(self, there: str) -> dict[str, Any]:
        """Return the verdict on the record that stands there."""
        follower = await self.follow("evt.data.quarantine")
        found = await follower.until(lambda record: stands_at(record) == there, f"a verdict on {there}")
        return fact(found[0])

    @asynccontextmanager
    async def unharmed(self) -> AsyncIterator[None]:
        """Assert that no process was started anew during the block; wait until all are ready at its end."""
        before = [self.platform.pid(name) for name in self.platform.names]
        yield
        await self.until(self.ready)
        assert [self.platform.pid(name) for name in self.platform.names] == before

    async def ready(self) -> bool:
        """Tell whether every service is ready."""
        answers = await asyncio.gather(*(self.get(name, "/readyz") for name in SERVICES))
        return all(answer.status_code == 200 for answer in answers)

    async def until(self, condition: Callable[[], Awaitable[bool]]) -> None:
        """Return when the condition holds; a service that does not answer is waited for."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                with suppress(httpx.TransportError):
                    if await condition():
                        return
                await asyncio.sleep(0.02)

    async def close(self) -> None:
        """Close the clients."""
        for follower in self.followers.values():
            await follower._consumer.stop()
        await self.producer.stop()


def note_of(record: ConsumerRecord) -> str | None:
    """Return the note of an accepted record; None for a marker."""
    accepted = fact(record).get("record")
    note: str | None = accepted.get("note") if isinstance(accepted, dict) else None
    return note


def stands_at(record: ConsumerRecord) -> str | None:
    """Return where the record stands that a verdict is about; None for other facts of the quarantine."""
    found = fact(record)
    if "reason" not in found:
        return None
    return f"src.{found['source']}/{found['partition']}/{found['offset']}"
