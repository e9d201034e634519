"""A log of accepted orders and payments, and a way to compute over it that may crash anywhere."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
from hypothesis import strategies as st

from mainstem.events.catalogue import decode
from mainstem.events.data import ProgressReached, RecordAccepted
from mainstem.events.envelope import Envelope
from mainstem.events.features import OrderJournalled
from mainstem.events.fence import Fence
from mainstem.events.instants import render
from mainstem.events.record import header
from mainstem.features.handlers import PATIENCE_S, Computing
from mainstem.features.ports import Left, Partition, Progress, RowTally, Store
from mainstem.fold.accepted import Parked
from mainstem.fold.fold import Fold
from mainstem.project import ProjectDefinition
from mainstem.telemetry import Tracer
from mainstem.testkit.projects import shop
from mainstem.testkit.records import Log, Taken

SECOND = 1_000_000
TRACER = Tracer("test", None)
History = dict[Partition, list[Taken]]
PLACES = [(f"evt.data.{source}", partition) for source in ("orders", "payments") for partition in range(2)]
#: What a process may do: store, crash, or read so many records of a partition.
Step = Literal["checkpoint", "crash"] | tuple[Partition, int]
STEPS: st.SearchStrategy[list[Step]] = st.lists(
    st.tuples(st.sampled_from(PLACES), st.integers(1, 6)) | st.sampled_from(("checkpoint", "crash")), max_size=25
)


def accepted(source: str, partition: int, offset: int, arrival_us: int, amount: float) -> Taken:
    """Return an accepted record, one second after it happened."""
    shop_name = f"s{partition}{offset % 2}"
    record = {"shop": shop_name, "amount" if source == "orders" else "paid": amount}
    fact = RecordAccepted(source=source, contract="c", record=record)
    envelope = Envelope(
        id=f"{source}-{partition}-{offset}",
        type=RecordAccepted.TYPE,
        source="/test",
        subject=shop_name,
        time_us=arrival_us - SECOND,
        recorded_us=arrival_us,
        correlation="story",
        causation="record",
        actor="/test",
        origin=f"src.{source}/{partition}/{offset}",
    )
    value = fact.model_dump_json(exclude={"replaces"}).encode()
    return Taken(f"evt.data.{source}", partition, offset, value, shop_name.encode(), envelope.headers())


def marker(source: str, partition: int, offset: int, until_us: int) -> Taken:
    """Return a progress marker."""
    value = ProgressReached(until=render(until_us)).model_dump_json().encode()
    headers = (
        ("ce_type", ProgressReached.TYPE.encode()),
        ("ce_origin", f"src.{source}/{partition}/{offset}".encode()),
    )
    return Taken(f"evt.data.{source}", partition, offset, value, None, headers)


def history(*, markers: bool = True) -> History:
    """Return four partitions of three minutes each; arrivals of different partitions often are equal."""
    rng = np.random.default_rng(7)
    found: History = {}
    for source in ("orders", "payments"):
        for partition in range(2):
            place: list[Taken] = []
            for minute in range(3):
                for arrival in np.sort(rng.integers(1, 13, rng.integers(0, 5))) * 5 + minute * 60:
                    amount = float(rng.integers(0, 100_000)) / 100
                    place.append(accepted(source, partition, len(place), int(arrival) * SECOND, amount))
                if markers:
                    place.append(marker(source, partition, len(place), (minute + 1) * 60 * SECOND))
            found[f"evt.data.{source}", partition] = place
    return found


def with_junk(history: History, place: Partition, at: int, junk: Taken) -> History:
    """Return the history with one more record in a partition, before the one of the offset `at`."""
    records = [*history[place][:at], junk, *history[place][at:]]
    topic, partition = place
    moved = [replace(r, topic=topic, partition=partition, offset=offset) for offset, r in enumerate(records)]
    return {**history, place: moved}


def renamed(record: Taken, **headers: bytes | None) -> Taken:
    """Return the record with some headers changed, or left out."""
    found = {**dict(record.headers), **headers}
    return replace(record, headers=tuple((name, held) for name, held in found.items() if held is not None))


@dataclass
class Kept:
    """A store that keeps of each definition the last state, and all that was told of it, added up."""

    states: dict[str, Progress] = field(default_factory=dict)
    ids: dict[str, dict[str, str]] = field(default_factory=dict)

    async def save(self, progress: Progress) -> None:
        """Keep it, once."""
        before = self.states.get(progress.definition)
        if before is None:
            self.states[progress.definition] = progress
        elif before.state != progress.state:
            self.states[progress.definition] = replace(
                progress,
                tallies=_added(before.tallies, progress.tallies),
                journal=[*before.journal, *progress.journal],
                parked=(*before.parked, *progress.parked),
            )

    async def state(self, definition: str) -> bytes | None:
        """Return the state kept."""
        return self.states[definition].state if definition in self.states else None

    async def parked(self, definition: str, limit: int) -> list[Left]:
        """Return the last of what was parked."""
        kept = reversed(self.states[definition].parked if definition in self.states else ())
        return [_left(parked) for parked in kept][:limit]

    async def topics(self, definition: str, seen: Mapping[str, str]) -> Mapping[str, str]:
        """Keep the ids seen first."""
        known = self.ids.setdefault(definition, {})
        known.update({topic: found for topic, found in seen.items() if topic not in known})
        return known

    async def definitions(self) -> list[ProjectDefinition]:
        """Return none: who is tested knows its own."""
        return []


def _left(parked: Parked) -> Left:
    record, known_as = parked.record, header(parked.record, "ce_id")
    return Left(record.topic, record.partition, record.offset, known_as and known_as.decode(), parked.reason)


def _added(one: Mapping[int, RowTally], other: Mapping[int, RowTally]) -> dict[int, RowTally]:
    found = {part: replace(tally) for part, tally in one.items()}
    for part, tally in other.items():
        have = found.setdefault(part, RowTally())
        have.rows, have.fingerprint = have.rows + tally.rows, (have.fingerprint + tally.fingerprint) % 2**63
    return found


#: When the emptied partitions of a test were noticed.
NOTICED_US = 1_000_000


class Process:
    """The feature service over a history: polls what it is told, checkpoints and crashes when it is told."""

    def __init__(
        self, history: History, definition: ProjectDefinition | None = None, *, patience_s: float = PATIENCE_S
    ) -> None:
        self.definition = definition or shop()
        self.log = Log()
        self._patience_s = patience_s
        self.store = Kept()
        self.history = history
        self.restart()

    def restart(self) -> None:
        """Begin anew from what was stored, as a process does that was killed."""
        compiled = self.definition.feature_sets["buying"].compiled
        self.fold = Fold(compiled, self.definition.sources)
        if compiled.id in self.store.states:
            self.fold.restore(self.store.states[compiled.id].state)
        self._next = {place: position.next_offset for place, position in self.fold.positions.items()}
        self.computing = Computing(self.fold, 2, TRACER, self._patience_s)

    async def play(self, steps: Sequence[Step]) -> None:
        """Do one step after another; after a crash a set of live sources follows its journal first."""
        for step in steps:
            match step:
                case "checkpoint":
                    await self.checkpoint()
                case "crash":
                    self.restart()
                    if self.fold.live:
                        self.fold.follow(self.journal())
                case place, count:
                    await self.poll(place, count)

    async def poll(self, place: Partition, count: int) -> None:
        """Read the next records of one partition."""
        begin = self._next[place]
        records = self.history[place][begin : begin + count]
        self._next[place] = begin + len(records)
        await self.take(records)

    async def take(self, records: Sequence[Taken]) -> None:
        """Compute over some records."""
        lag = {place: len(self.history[place]) - offset for place, offset in self._next.items()}
        await self.computing.on_records(records, lag=lag, publisher=self.log)

    async def empty(self, place: Partition, offset: int) -> None:
        """Notice that a partition holds no record and goes on at an offset."""
        await self.computing.on_emptied({place: offset}, NOTICED_US)

    async def finish(self, store: Store | None = None) -> None:
        """Read everything that is left and store it."""
        for place in self.history:
            await self.poll(place, 1_000)
        await self.take([])
        await self.checkpoint(store)

    async def checkpoint(self, store: Store | None = None) -> None:
        """Store the state."""
        await self.computing.checkpoint(store or self.store)

    def published(self) -> dict[Partition, list[tuple[bytes, bytes | None]]]:
        """Return what a reader behind a fence sees in each partition: ids and payloads in their order."""
        fresh, headers = Fence().admit(self.log.records)
        seen: dict[Partition, list[tuple[bytes, bytes | None]]] = {}
        for record, found in zip(fresh, headers, strict=True):
            seen.setdefault((record.topic, record.partition), []).append((found["ce_id"], record.value))
        return seen

    @property
    def stored(self) -> Progress:
        """Return what was stored of the feature set."""
        return self.store.states[self.fold.compiled.id]

    def tallies(self) -> dict[int, RowTally]:
        """Return the rows that were published, each once, as they should have been counted."""
        found: dict[int, RowTally] = {}
        for (topic, partition), events in self.published().items():
            for _, value in events:
                if topic.startswith("evt.feature.") and b'"spine_id"' in (value or b""):
                    found.setdefault(partition, RowTally()).count(value or b"")
        return found

    def journal(self) -> list[OrderJournalled]:
        """Return the entries of the journal, each once."""
        found: dict[int, OrderJournalled] = {}
        for record in self.log.of(OrderJournalled.TOPIC):
            fact = decode(record).fact
            assert isinstance(fact, OrderJournalled)
            found.setdefault(fact.number, fact)
        return [found[number] for number in sorted(found)]


#: Sources that announce their progress, and sources that announce nothing.
ANNOUNCED, SILENT = history(), history(markers=False)
