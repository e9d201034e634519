"""Workers that share a feature set out among themselves, over a log in memory; any of them may crash."""

from dataclasses import dataclass, field

from services.features.tests.features_history import TRACER, History

from mainstem.events.fence import Fence
from mainstem.features.ports import Partition
from mainstem.features.sharded.plan import Plan
from mainstem.features.sharded.stages import Stage, stages
from mainstem.features.sharded.store import Saved, Stored, TakenOver
from mainstem.features.sharded.work import Worker
from mainstem.testkit.records import Log, Taken


@dataclass
class Kept:
    """States of stages, kept as the store in the database keeps them."""

    states: dict[tuple[str, int], Stored] = field(default_factory=dict)
    outcomes: list[Saved] = field(default_factory=list)

    async def load(self, name: str) -> dict[int, Stored]:
        """Return the states of a stage."""
        return {part: stored for (stage, part), stored in self.states.items() if stage == name}

    async def save(self, name: str, part: int, saved: Saved) -> Stored:
        """Keep a state, unless another was kept since it was loaded."""
        if self.states.get((name, part), Stored()).version != saved.stored.version:
            raise TakenOver(name)
        new = Stored(saved.stored.version + 1, saved.stored.next_offset, saved.stored.state)
        self.states[name, part] = new
        self.outcomes.append(saved)
        return new


class Cluster:
    """Workers 0 to n - 1 on all stages of a set; partitions are given to them as they are told."""

    def __init__(self, plan: Plan, history: History, workers: int) -> None:
        self.plan, self.workers = plan, workers
        self.log, self.store = Log(), Kept()
        self._history = history
        self.stages = stages(plan, TRACER)
        self._at_work: dict[tuple[str, int], Worker] = {}
        self._owner: dict[Partition, int] = {}
        self._next: dict[Partition, int] = {}

    def partitions(self, stage: Stage) -> list[int]:
        """Return the partitions of a stage's topic."""
        counts = {topic.name: topic.partitions for topic in self.plan.topics}
        return list(range(counts.get(stage.topic, 2)))

    def records(self, topic: str, part: int) -> list[Taken]:
        """Return what stands in a partition."""
        if (topic, part) in self._history:
            return self._history[topic, part]
        return [record for record in self.log.records if (record.topic, record.partition) == (topic, part)]

    def worker(self, stage: Stage, number: int) -> Worker:
        """Return a worker's part in a stage."""
        return self._at_work[stage.name, number]

    async def share_out(self, shift: int) -> None:
        """Give every partition of every stage to a worker, and let all begin with what is stored."""
        for stage in self.stages:
            for part in self.partitions(stage):
                self._owner[stage.topic, part] = (part + shift) % self.workers
            for number in range(self.workers):
                worker = self._at_work.setdefault((stage.name, number), Worker(stage, self.store, self.log))
                stored = await worker.positions()
                for part in self.partitions(stage):
                    if self._owner[stage.topic, part] == number:
                        self._next[stage.topic, part] = stored.get((stage.topic, part), 0)

    async def crash(self, number: int, shift: int) -> None:
        """Kill a worker; all partitions are given out anew."""
        for stage in self.stages:
            self._at_work[stage.name, number] = Worker(stage, self.store, self.log)
        await self.share_out(shift)

    async def checkpoint(self, number: int) -> None:
        """Let a worker store where it stands."""
        for stage in self.stages:
            await self._at_work[stage.name, number].checkpoint()

    async def poll(self, stage: Stage, part: int, count: int) -> int:
        """Let the owner of a partition read on; return how many records it read."""
        begin = self._next[stage.topic, part]
        records = self.records(stage.topic, part)[begin : begin + count]
        self._next[stage.topic, part] = begin + len(records)
        await self._at_work[stage.name, self._owner[stage.topic, part]].on_records(records)
        return len(records)

    async def finish(self) -> None:
        """Read all that is left, and what follows from it."""
        while sum([await self.poll(s, part, 1_000) for s in self.stages for part in self.partitions(s)]):
            pass
        for number in range(self.workers):
            await self.checkpoint(number)

    def published(self) -> dict[Partition, list[tuple[bytes, bytes | None]]]:
        """Return what a reader behind a fence sees in each partition that is not internal: ids and payloads."""
        fresh, headers = Fence().admit([r for r in self.log.records if not r.topic.startswith("int.")])
        seen: dict[Partition, list[tuple[bytes, bytes | None]]] = {}
        for record, found in zip(fresh, headers, strict=True):
            seen.setdefault((record.topic, record.partition), []).append((found["ce_id"], record.value))
        return seen
