"""Any number of processes on a real Kafka, and whatever is killed of them: what one worker in memory publishes."""

import asyncio
import json
import signal
from collections.abc import Mapping
from pathlib import Path
from random import Random

import pytest
from projects.flights.data import Events
from tests.fault.scenario import SEED
from tests.fault.shards import DAYS, LABEL, Lines, Run, Story, computed, running, tell

from mainstem.events.features import FoldStopped, RowComputed
from mainstem.feature_engine import load
from mainstem.project import ProjectDefinition
from mainstem.testkit.logs import events_once

pytestmark = [pytest.mark.real, pytest.mark.fault]


@pytest.fixture(scope="module")
async def story(flights: Mapping[str, Events]) -> Story:
    return await tell(flights)


async def test_one_worker_on_a_real_log_publishes_what_one_in_memory_does(story: Story, tmp_path: Path) -> None:
    async with running(story, tmp_path, shards=1) as run:
        await run.workers.start(0)
        await run.play(*range(DAYS))
        await run.published(DAYS - 1)
        await run.stored()
        assert await run.workers.stop() == [0]
    assert run.lines == story.lines


@pytest.mark.parametrize("processes", [1, 2, 4])
async def test_processes_that_share_the_shards_publish_what_one_worker_does(
    story: Story, tmp_path: Path, processes: int
) -> None:
    async with running(story, tmp_path, shards=4) as run:
        await run.workers.start(*range(processes))
        await run.shared()
        await run.play(*range(DAYS))
        await run.published(DAYS - 1)
        await run.stored()
        assert await run.workers.stop() == [0] * processes
    assert run.lines == story.lines


class Chaos:
    """Kills workers at random moments, always the same for a seed."""

    def __init__(self, run: Run) -> None:
        self._workers = run.workers
        self._random = Random(SEED)
        self.kills = 0

    async def kill(self) -> int:
        """Kill one, some time after what happened last."""
        await asyncio.sleep(self._random.uniform(0.05, 0.8))
        victim = self._random.choice(self._workers.numbers)
        await self._workers.kill(victim)
        self.kills += 1
        return victim

    async def strike(self, times: int) -> None:
        """Kill so many, one after another, and start each again at once."""
        for _ in range(times):
            await self._workers.start(await self.kill())


#: On which day what happens; on the others one is killed and started again at once.
FOUR_IN_A_ROW, TWO_FOR_LONG, A_GHOST = (2, 9), 5, 11


async def test_kills_and_a_ghost_change_neither_rows_nor_tables(story: Story, tmp_path: Path) -> None:
    async with running(story, tmp_path, shards=4) as run:
        await run.workers.start(*range(4))
        await run.shared()
        chaos = Chaos(run)
        days = iter(range(DAYS))
        for day in days:
            if day == A_GHOST:
                await haunt(run, day, next(days))
                continue
            await run.play(day)
            if day == TWO_FOR_LONG:
                gone = [await chaos.kill(), await chaos.kill()]
                await run.published(day)  # by the others, who have their partitions now
                await run.workers.start(*gone)
            else:
                await chaos.strike(4 if day in FOUR_IN_A_ROW else 1)
        await run.published(DAYS - 1)
        await run.stored()
        assert await run.workers.stop() == [0] * 4
    assert chaos.kills >= 10
    assert run.lines == story.lines


async def haunt(run: Run, day: int, following: int) -> None:
    """Let a worker stand still in the middle of a day until others have gone on; it must not store what it knew."""
    ghost = run.workers.numbers[0]
    await run.published(day - 1)
    await run.play(day)
    await run.begun()
    run.workers.signal(ghost, signal.SIGSTOP)
    before = await run.versions()
    await run.play(following)
    await run.published(following)
    await run.stored_since(before)
    run.workers.signal(ghost, signal.SIGCONT)
    async with asyncio.timeout(10):
        while '"action": "taken_over"' not in run.workers.said(ghost):  # noqa: ASYNC110  # the ghost's own words
            await asyncio.sleep(0.05)


async def test_a_worker_that_was_away_until_its_frames_were_gone_stops_by_name(story: Story, tmp_path: Path) -> None:
    async with running(story, tmp_path, shards=2) as run:
        await run.workers.start(0)
        await run.play(0)
        await run.published(0)
        await run.stored_since({})
        await run.play(1)
        await run.begun()
        await run.workers.kill(0)
        await run.expire(run.plan.fold_topic)
        await run.workers.start(0)
        (event,) = await events_once(run.kafka, ["evt.feature.check"], bool)
    assert isinstance(event.fact, FoldStopped)
    assert (event.fact.feature_set, event.fact.input) == (LABEL, run.plan.fold_topic)
    assert "records between are gone; bring them back, or declare a new version" in event.fact.reason


@pytest.mark.parametrize("shards", [1, 2])
async def test_a_set_whose_input_lost_its_last_records_stops_by_name_before_any_other_comes(
    story: Story, tmp_path: Path, shards: int
) -> None:
    async with running(story, tmp_path, shards) as run:
        await run.workers.start(0)
        await run.play(0, 1)
        await run.published(1)
        await run.counted(1)
        if shards > 1:
            await run.settled()
        await run.workers.kill(0)
        await run.play(2)
        lost = f"evt.data.{run.plan.compiled.spine}"
        await run.expire(lost)
        await run.workers.start(0)
        (event, *_) = await events_once(run.kafka, ["evt.feature.check"], bool)
    assert isinstance(event.fact, FoldStopped)
    assert (event.fact.feature_set, event.fact.input) == (LABEL, lost)
    assert event.fact.found_offset > event.fact.expected_offset > 0


BESIDE = f"{LABEL}.v2"


def with_a_second_set(definition: ProjectDefinition, features: int) -> ProjectDefinition:
    """Return a project with another version of its feature set beside the first, of so many features."""
    document = json.loads(definition.canonical())
    spec = document["feature_sets"][LABEL]["spec"]
    beside = spec | {"version": 2, "features": spec["features"][:features]}
    document["feature_sets"][BESIDE] = {"id": load(beside).id, "spec": beside}
    return ProjectDefinition.model_validate(document)


async def test_a_changed_set_begins_anew_and_the_one_beside_it_goes_on(story: Story, tmp_path: Path) -> None:
    half = DAYS // 2
    first, edited = (with_a_second_set(story.definition, features) for features in (5, 9))
    async with running(story, tmp_path, shards=4) as run:
        await run.apply(first)
        await run.workers.start(0, 1)
        await run.shared()
        await run.play(*range(half))
        await run.published(half - 1)
        wanted, _ = await computed(first, BESIDE, story.days[:half])
        assert await rows_beside(run, first, wanted) == rows(wanted)
        await run.settled()
        once = run.copies(half - 1)
        await run.apply(edited)
        await run.play(*range(half, DAYS))
        await run.published(DAYS - 1)
        wanted, _ = await computed(edited, BESIDE, story.days)
        assert await rows_beside(run, edited, wanted) == rows(wanted)
        assert await run.workers.stop() == [0, 0]
    assert run.lines == story.lines
    assert run.copies(half - 1) == once


def rows(lines: Lines) -> Lines:
    """Return what stands in the topic of the set beside."""
    return {place: found for place, found in lines.items() if place[0] == RowComputed.topic_of(BESIDE)}


async def rows_beside(run: Run, definition: ProjectDefinition, wanted: Lines) -> Lines:
    """Return what is published of the set beside, as soon as it is as much as wanted."""
    return await run.lines_of(BESIDE, definition.feature_sets[BESIDE].id, sum(map(len, rows(wanted).values())))
