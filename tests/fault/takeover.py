"""A spring at the harbour whose model changes its set of features and back, alone or with something that kills."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx
from aiokafka import AIOKafkaProducer
from tests.fault.scenario import Killer
from tests.system.sets import harbour
from tests.system.spring import DAYS, LIFTS_A_DAY, MODEL, PARTITIONS, Spring, at_us
from tests.system.world import HARBOUR, World

from mainstem.bus.reader import LogReader
from mainstem.cli.local.platform import Platform
from mainstem.events.catalogue import decode
from mainstem.events.data import ProgressReached
from mainstem.events.envelope import Event
from mainstem.events.fence import Fence
from mainstem.events.instants import parse
from mainstem.events.serving import DeploymentActivated, Predicted
from mainstem.testkit.logs import events_once

#: Days as of which the version that answers is another one. The last two are decided when the log is a day further.
CHANGES = (DAYS + 1, DAYS + 2, DAYS + 3, DAYS + 4)
END = DAYS + 6
LONGEST_WAIT_S = 150


@dataclass
class Takeover:
    """The story on one platform: version 1 reads the first set, version 2 the second, and they take turns."""

    spring: Spring
    killer: Killer | None = None

    @property
    def kafka(self) -> str:
        """Return the address of the broker."""
        return self.spring.world.env["MAINSTEM_KAFKA"]

    async def begin(self, folder: Path) -> None:
        """Let version 1 answer; declare the second set beside the first, and make version 2."""
        await self.spring.world.apply(HARBOUR)
        await self.spring.learn()
        await self.spring.world.apply(harbour(folder, second=True))
        await self.spring.play(DAYS, CHANGES[0])
        await self.spring.trained(2, CHANGES[0])

    async def change(self, day: int, until: int, *, late: bool) -> None:
        """Let the other version answer as of a day, and go on to the next change.

        `late` says whether that is decided when the log has passed the day and all up to the next change.
        """
        if late:
            await self.spring.play(day, until)
        await self._strike(2)
        await self.decide(day)
        await self._strike(3)
        if not late:
            await self.spring.play(day, until)
        await self._strike(2)

    async def decide(self, day: int) -> None:
        """Let the other version answer as of a day; who finds the server killed asks again, and it is one command."""
        async with asyncio.timeout(LONGEST_WAIT_S):
            while True:
                with suppress(httpx.TransportError):
                    answer = await self._ask(day)
                    if answer.status_code < 500:
                        assert answer.json()["promoted"] is True, answer.text
                        return
                await asyncio.sleep(0.1)

    async def _ask(self, day: int) -> httpx.Response:
        if day == CHANGES[0]:
            return await self.spring.approve(2, by="approver", day=day)
        to = 2 if CHANGES.index(day) % 2 == 0 else 1
        return await self.spring.decide("rollback", by="operator", day=day, to=to)

    async def _strike(self, times: int) -> None:
        if self.killer:
            await self.killer.strike(times)

    async def activations(self, count: int) -> list[tuple[int, int]]:
        """Return (recorded time in µs, version) of what answers since when, as soon as there are so many."""

        def enough(events: list[Event]) -> bool:
            return sum(isinstance(event.fact, DeploymentActivated) for event in events) >= count

        events = await events_once(self.kafka, ["evt.serving.deployment"], enough, within_s=LONGEST_WAIT_S)
        facts = [event.fact for event in events if isinstance(event.fact, DeploymentActivated)]
        return [(parse(fact.effective_from), fact.version) for fact in facts]

    async def answers(self) -> list[tuple[str, int, int]]:
        """Return (lift, recorded time in µs, version) of the answers, as soon as every partition announces the end.

        Each stands there once, as a fenced reader sees it, and it is about a lift of the days of change.
        """
        fence, found = Fence(), list[tuple[str, int, int]]()
        announced: dict[int, int] = {}
        async with asyncio.timeout(LONGEST_WAIT_S), LogReader(self.kafka, [f"tel.prediction.{MODEL}"]) as reader:
            await reader.start()
            while sorted(announced) != list(range(PARTITIONS)) or min(announced.values()) < at_us(END) - 1:
                for record in fence.admit(await reader.poll())[0]:
                    event = decode(record)
                    match event.fact:
                        case Predicted(entity=str(lift), version=version) if lift in LIFTS:
                            found.append((lift, event.envelope.recorded_us, version))
                        case ProgressReached(until=until):
                            announced[record.partition] = max(parse(until), announced.get(record.partition, 0))
                        case _:
                            continue
        return found


#: The lifts of the days in which the versions take turns.
LIFTS = {f"{day}-{hour}" for day in range(DAYS, END) for hour in range(LIFTS_A_DAY)}


@asynccontextmanager
async def taking_over(platform: Platform) -> AsyncIterator[Takeover]:
    """Give the story on a platform, with clients that are closed afterwards."""
    producer = AIOKafkaProducer(bootstrap_servers=platform.env["MAINSTEM_KAFKA"])
    await producer.start()
    async with httpx.AsyncClient(timeout=30) as http:
        world = World(platform, http, producer)
        yield Takeover(Spring(world))
        await world.close()
