"""Workers that share a feature set out among themselves, over a log in memory; any of them may crash."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from mainstem.events.envelope import Message
from mainstem.events.fence import Fence
from mainstem.events.record import Record
from mainstem.features.ports import Partition
from mainstem.features.sharded.plan import Plan
from mainstem.features.sharded.stages import Stage, stages
from mainstem.features.sharded.store import Place, Saved, TakenOver
from mainstem.features.sharded.unit import Outcome
from mainstem.features.sharded.work import Worker
from mainstem.telemetry import Tracer
from mainstem.testkit.records import Taken


@dataclass
class Kept:
    """States of stages, kept as the store in the database keeps them."""

    states: dict[tuple[str, int], tuple[Place, bytes]] = field(default_factory=dict)
    outcomes: list[Outcome] = field(default_factory=list)

    async def places(self, name: str) -> dict[int, Place]:
        """Return what is kept of a stage."""
        return {part: place for (stage, part), (place, _) in self.states.items() if stage == name}

    async def state(self, name: str, part: int, version: int) -> bytes:
        """Return the state of a version."""
        place, state = self.states[name, part]
        if place.version != version:
            raise TakenOver(name, part, version)
        return state

    async def save(self, name: str, part: int, saved: Saved) -> Place:
        """Keep a state, unless another was kept since it was loaded."""
        there, _ = self.states.get((name, part), (Place(), b""))
        if there.version != saved.instead_of:
            raise TakenOver(name, part, saved.instead_of)
        place = Place(there.version + 1, saved.next_offset)
        self.states[name, part] = place, saved.state
        self.outcomes.append(saved.outcome)
        return place


class Topics:
    """Partitions as lists; what lies before an offset may be gone."""

    def __init__(self) -> None:
        self._first: defaultdict[Partition, int] = defaultdict(int)
        self._records: defaultdict[Partition, list[Taken]] = defaultdict(list)

    async def publish(self, messages: Sequence[Message]) -> None:
        """Append messages."""
        for m in messages:
            place = (m.topic, m.partition or 0)
            offset = self._first[place] + len(self._records[place])
            self._records[place].append(Taken(*place, offset, m.value, m.key, m.headers))

    def append(self, records: Sequence[Taken]) -> None:
        """Append records under the offsets that they have."""
        for record in records:
            self._records[record.topic, record.partition].append(record)

    def read(self, place: Partition, begin: int, count: int | None = None) -> list[Taken]:
        """Return so many records from an offset on."""
        first = max(begin - self._first[place], 0)
        return self._records[place][first : None if count is None else first + count]

    def forget(self, place: Partition, before: int) -> None:
        """Drop what lies before an offset."""
        gone = max(before - self._first[place], 0)
        del self._records[place][:gone]
        self._first[place] += gone

    def drain(self, places: Iterable[Partition] | None = None) -> list[Taken]:
        """Return what stands in some partitions, or in all, and forget it."""
        drained = []
        for place in list(self._records) if places is None else places:
            records = self.read(place, 0)
            self.forget(place, self._first[place] + len(records))
            drained += records
        return drained

    def published(self) -> list[Partition]:
        """Return the partitions that are not internal and not what was accepted."""
        return sorted(place for place in self._records if not place[0].startswith(("int.", "evt.data.")))


class Cluster:
    """Workers 0 to n - 1 on all stages of a set; partitions are given to them as they are told."""

    def __init__(self, plan: Plan, workers: int, topics: Topics) -> None:
        self.plan, self.workers, self.topics, self.store = plan, workers, topics, Kept()
        self.stages = stages(plan, Tracer("test", None))
        self._at_work: dict[tuple[str, int], Worker] = {}
        self._owner: dict[Partition, int] = {}
        self._next: dict[Partition, int] = {}

    def partitions(self, stage: Stage) -> list[int]:
        """Return the partitions of a stage's topic."""
        counts = {topic.name: topic.partitions for topic in self.plan.topics}
        return list(range(counts.get(stage.topic, 2)))

    def worker(self, stage: Stage, number: int) -> Worker:
        """Return a worker's part in a stage."""
        return self._at_work[stage.name, number]

    async def share_out(self, shift: int) -> None:
        """Give every partition of every stage to a worker, and let all begin with what is stored."""
        for stage in self.stages:
            for part in self.partitions(stage):
                self._owner[stage.topic, part] = (part + shift) % self.workers
            for number in range(self.workers):
                worker = self._at_work.setdefault((stage.name, number), Worker(stage, self.store, self.topics))
                stored = await worker.positions()
                for part in self.partitions(stage):
                    if self._owner[stage.topic, part] == number:
                        self._next[stage.topic, part] = stored.get((stage.topic, part), 0)

    async def crash(self, number: int, shift: int) -> None:
        """Kill a worker; all partitions are given out anew."""
        for stage in self.stages:
            self._at_work[stage.name, number] = Worker(stage, self.store, self.topics)
        await self.share_out(shift)

    async def checkpoint(self, number: int) -> None:
        """Let a worker store where it stands."""
        for stage in self.stages:
            await self._at_work[stage.name, number].checkpoint()

    async def poll(self, stage: Stage, part: int, count: int) -> int:
        """Let the owner of a partition read on; return how many records it read."""
        place = (stage.topic, part)
        records: list[Record] = [*self.topics.read(place, self._next[place], count)]
        self._next[place] += len(records)
        await self._at_work[stage.name, self._owner[place]].on_records(records)
        return len(records)

    async def catch_up(self, count: int = 1_000) -> None:
        """Read all that is left, and what follows from it, so many records at a time."""
        while sum([await self.poll(s, part, count) for s in self.stages for part in self.partitions(s)]):
            pass

    async def finish(self) -> None:
        """Read all that is left, and let all workers store where they stand."""
        await self.catch_up()
        for number in range(self.workers):
            await self.checkpoint(number)

    def published(self) -> dict[Partition, list[tuple[bytes, bytes | None]]]:
        """Return what a reader behind a fence sees in each partition that others read: ids and payloads."""
        seen: dict[Partition, list[tuple[bytes, bytes | None]]] = {}
        for place in self.topics.published():
            fresh, headers = Fence().admit(self.topics.read(place, 0))
            seen[place] = [(found["ce_id"], record.value) for record, found in zip(fresh, headers, strict=True)]
        return seen
