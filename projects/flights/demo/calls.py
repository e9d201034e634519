"""What an application does: asks for predictions with clients of the protocol as they are, and keeps every answer."""

import time
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Literal, NamedTuple, Protocol

import msgspec
import numpy as np
import numpy.typing as npt

from mainstem.bus import Partition
from mainstem.bus.reader import LogReader
from mainstem.events.data import RecordAccepted
from mainstem.events.features import RowComputed
from mainstem.events.record import Record
from mainstem.project import ProjectDefinition

INPUT = "features"
TIMEOUT_S = 10.0
#: A worker that follows the log since a moment ago is behind for so long at most.
CATCHING_UP_S = 60.0

Channel = Literal["http", "grpc"]


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back on one question; `prediction` is the id under which the log must hold it.

    Of a call that named the flight and not its features `row` is empty. `seconds` is what the caller waited.
    """

    channel: Channel
    row: str
    version: int
    score: float
    prediction: str
    seconds: float = 0.0


class _Row(msgspec.Struct):
    entity: str
    values: list[float | None]


class _Accepted(msgspec.Struct):
    record: dict[str, str | float | int | None]


class Said(NamedTuple):
    """What a model said: its version, the probability of lateness, and the id of the prediction."""

    version: int
    score: float
    prediction: str


class NotYet(Exception):
    """The model cannot answer now."""


class _Client(Protocol):
    """A client of the protocol, over either transport."""

    async def infer(self, tensors: Mapping[str, npt.NDArray[Any]], entity: str) -> Said:
        """Return what the model says. Raises NotYet, and RuntimeError with the server's own words."""

    async def close(self) -> None:
        """End it."""


class Newest:
    """The end of a topic."""

    def __init__(self, bootstrap: str, topic: str) -> None:
        self._topic = topic
        self.reader = LogReader(bootstrap, [topic])

    async def of(self, count: int, kind: str) -> list[Record]:
        """Return the records of a kind that were recorded last, each once."""
        await self.reader.start()
        # Markers and second copies stand between them.
        starts: dict[Partition, int] = {
            place: max(0, end - 2 * count - 50) for place, end in (await self.reader.ends()).items()
        }
        await self.reader.start(starts)
        found: dict[bytes, tuple[bytes, bytes, Record]] = {}
        async for records in self.reader.to_end():
            for record in records:
                headers = dict(record.headers)
                if headers["ce_type"] == kind.encode():
                    found[headers["ce_id"]] = headers["ce_recordedtime"], headers["ce_id"], record
        if len(found) < count:
            raise RuntimeError(f"{self._topic} holds {len(found)} records, {count} are needed; play more days")
        ordered = sorted(found.values(), key=lambda each: each[:2])[-count:] if count else []
        return [record for _, _, record in ordered]


class Calls:
    """Asks about flights that just left, over each protocol `total` times by their features and `total` times by name.

    The calls are spread evenly over some occasions. Use `async with`, when the model's topics exist.
    """

    def __init__(
        self, env: Mapping[str, str], project: ProjectDefinition, model: str, total: int, occasions: int
    ) -> None:
        self.answers: list[Answer] = []
        self._model, self._total, self._occasions, self._occasion = model, total, occasions, 0
        label = project.models[model].feature_set
        compiled = project.feature_sets[label].compiled
        self._columns = list(compiled.streams[compiled.spine])
        self._rows = Newest(env["MAINSTEM_KAFKA"], RowComputed.topic_of(label))
        self._flights = Newest(env["MAINSTEM_KAFKA"], f"evt.data.{compiled.spine}")
        self._addresses = env["MAINSTEM_SERVING_URL"].removeprefix("http://"), env["MAINSTEM_SERVING_GRPC"]
        self._stack = AsyncExitStack()
        self._clients: dict[Channel, _Client] = {}

    async def __aenter__(self) -> "Calls":
        for reader in (self._rows.reader, self._flights.reader):
            await self._stack.enter_async_context(reader)
        self._clients = import_module("projects.flights.demo.clients").connect(self._addresses, self._model)
        for client in self._clients.values():
            self._stack.push_async_callback(client.close)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def some(self) -> None:
        """Make the calls of one occasion; raise RuntimeError with the server's own words when one fails."""
        done, self._occasion = self._occasion, self._occasion + 1
        count = self._total * self._occasion // self._occasions - self._total * done // self._occasions
        for record in await self._rows.of(count, RowComputed.TYPE):
            headers, row = dict(record.headers), msgspec.json.decode(record.value or b"", type=_Row)
            features = {INPUT: np.array([row.values], np.float64)}
            for channel in self._clients:
                self.answers.append(await self._ask(channel, features, row.entity, headers["ce_id"].decode()))
        for record in await self._flights.of(count, RecordAccepted.TYPE):
            said = msgspec.json.decode(record.value or b"", type=_Accepted).record
            columns = {name: _column(said[name]) for name in self._columns}
            for channel in self._clients:
                self.answers.append(await self._ask(channel, columns, (record.key or b"").decode(), ""))

    async def _ask(self, channel: Channel, tensors: Mapping[str, npt.NDArray[Any]], entity: str, row: str) -> Answer:
        """Ask; while the worker has not read the log to its end, ask again."""
        until = time.monotonic() + CATCHING_UP_S
        while True:
            began = time.perf_counter()
            try:
                said = await self._clients[channel].infer(tensors, entity)
            except NotYet as fault:
                if row or time.monotonic() > until:
                    raise RuntimeError(str(fault)) from fault
            else:
                waited_s = time.perf_counter() - began
                return Answer(channel, row, said.version, said.score, said.prediction, waited_s)


def _column(value: str | int | float | None) -> npt.NDArray[Any]:
    """Return what is said of one flight in a column."""
    if isinstance(value, str):
        return np.array([value.encode()], object)
    return np.array([value], np.int64 if isinstance(value, int) else np.float64)
