"""Every answer that a caller got stands in the log once, whatever was killed while callers asked."""

import os
import signal
from collections import Counter
from collections.abc import AsyncIterator
from random import Random

import pytest
from tests.fault.answering import LONGEST_WAIT_S, OURS, Serving, calling, logged, set_up
from tests.fault.scenario import CHECKOUT, SEED

from mainstem.cli.local.platform import Platform

pytestmark = [pytest.mark.real, pytest.mark.fault]

#: `make fault` asks for more than `make test` has the time for.
KILLS = int(os.environ.get("FAULT_KILLS", "20"))
#: How long the broker is away at least; of an hour (3600), callers ask some 400 times a second.
AWAY_S = int(os.environ.get("FAULT_AWAY_S", "0"))
#: What is killed, in turn: the broker with the service, and each part of it alone.
VICTIMS = ("service", "kafka and service", "kafka", "worker", "sender")


@pytest.fixture
async def platform(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Platform]:
    """Return a broker and a database, and a version that is to answer."""
    root = tmp_path_factory.mktemp("answers")
    async with Platform(root, fast=True, services=[], cache=CHECKOUT / ".mainstem" / "cache") as platform:
        await set_up(platform)
        yield platform


@pytest.mark.parametrize(("module", "loses"), [(OURS, False), ("tests.fault.careless_answers", True)])
async def test_what_answers_before_it_records_loses_and_ours_does_not(
    platform: Platform, module: str, loses: bool
) -> None:
    random = Random(SEED)
    async with Serving(platform, module) as serving:
        async with calling(serving) as callers:
            for number in range(5 if loses else KILLS):
                await callers.until(random.randrange(1, 400))
                victim = VICTIMS[number % len(VICTIMS)]
                if "kafka" in victim:
                    platform.kill("kafka")
                if "service" in victim:
                    await serving.stop(signal.SIGKILL)
                    await serving.start()
                if victim in ("worker", "sender"):
                    await serving.kill(victim)
            await callers.until(200)
        recorded = await serving.balanced()
        found = await logged(platform)
    lost = callers.answered.items() - set(found)
    # What is lost is found out by its absence, or since the number that it had is given again.
    assert (bool(lost) or callers.doubled > 0) is loses
    if not loses:
        assert Counter(name for name, _ in found).most_common(1)[0][1] == 1
        assert len(found) == recorded >= len(callers.answered)


async def test_a_graceful_end_under_load_loses_neither_an_answer_nor_a_record(platform: Platform) -> None:
    answered: dict[str, float] = {}
    for _ in range(3):
        async with Serving(platform) as serving, calling(serving) as callers:
            await callers.until(300)
            assert await serving.stop() == 0
        answered |= callers.answered
    async with Serving(platform) as serving:
        recorded, found = await serving.balanced(), dict(await logged(platform))
    assert len(found) == recorded
    assert found == answered


async def test_with_the_broker_away_answers_go_on_and_are_sent_when_it_is_back(platform: Platform) -> None:
    async with Serving(platform) as serving:
        os.kill(platform.pid("kafka"), signal.SIGSTOP)
        async with calling(serving, pause_s=0.02 if AWAY_S else 0.0) as callers:
            await callers.until(3_000)
            await callers.go_on(AWAY_S)
        recorded, sent = await serving.books()
        assert recorded - sent >= len(callers.answered) - 1_000
        assert callers.refused == 0
        os.kill(platform.pid("kafka"), signal.SIGCONT)
        assert await serving.balanced(LONGEST_WAIT_S + AWAY_S) == len(await logged(platform))
    assert callers.answered.items() <= dict(await logged(platform)).items()


async def test_with_broker_and_database_away_at_its_start_it_answers_as_it_stood_last(platform: Platform) -> None:
    async with Serving(platform) as serving:
        await serving.balanced()
    away = [platform.pid("kafka"), platform.pid("postgres")]
    for pid in away:
        os.kill(pid, signal.SIGSTOP)
    async with Serving(platform) as serving:
        async with calling(serving) as callers:
            await callers.until(1_000)
        for pid in away:
            os.kill(pid, signal.SIGCONT)
        assert await serving.balanced() == len(await logged(platform))
    assert callers.answered.items() <= dict(await logged(platform)).items()
