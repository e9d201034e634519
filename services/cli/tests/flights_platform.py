"""The command line on a platform, one that plays flights for most."""

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path

from aiokafka import AIOKafkaProducer

from mainstem.bus.reader import LogReader
from mainstem.events.data import ProgressReached
from mainstem.events.features import RowComputed
from mainstem.events.instants import parse, render
from mainstem.events.record import header

CHECKOUT = Path(__file__).parents[3]
FLIGHTS = CHECKOUT / "projects" / "flights"
MAINSTEM = Path(sys.executable).parent / "mainstem"
START_US = parse("2012-12-31T00:00:00Z")


class Shell:
    """The command line on a platform."""

    def __init__(self, platform):
        self._env = {**os.environ, **platform.env}

    async def run(self, *arguments, given=None):
        command = [MAINSTEM, *map(str, arguments)]
        return await asyncio.to_thread(
            subprocess.run, command, env=self._env, input=given, capture_output=True, text=True, check=False, timeout=60
        )

    async def answer(self, *arguments, given=None):
        done = await self.run(*arguments, "-o", "json", given=given)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    async def until(self, found, *arguments):
        """Ask again until there is an answer that `found` accepts."""
        async with asyncio.timeout(30):
            while not found(rows := await self.answer(*arguments)):
                pass
        return rows


async def hollow(platform, topic):
    """Write two records with the end of a transaction between them, whose offset no reader is given a record for."""
    async with AIOKafkaProducer(bootstrap_servers=platform.env["MAINSTEM_KAFKA"], transactional_id="vandal") as vandal:
        for _ in range(2):
            async with vandal.transaction():
                await vandal.send_and_wait(topic, b"{}", partition=0)


async def reached(platform, until_us, feature_set="flight_delay"):
    """Return when every partition of the rows of a set has passed an instant."""
    topic = RowComputed.topic_of(feature_set)
    async with asyncio.timeout(60), LogReader(platform.env["MAINSTEM_KAFKA"], [topic]) as reader:
        await reader.start()
        left = {0, 1}
        while left:
            for record in await reader.poll():
                if header(record, "ce_type") == ProgressReached.TYPE.encode():
                    left -= {record.partition} if json.loads(record.value)["until"] == render(until_us) else set()
