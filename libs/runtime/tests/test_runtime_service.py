import asyncio
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from pydantic import ValidationError

from mainstem.bus import Subscription
from mainstem.events.errors import Conflict, Rejected, Unavailable
from mainstem.runtime import Resources, ServiceSettings, steadily
from mainstem.runtime.health import Health
from mainstem.telemetry import metrics
from mainstem.testkit.waiting import running, until

#: A service of one task that waits for ever; it says when it runs, and what it closed.
PROGRAM = """
import asyncio
from types import SimpleNamespace
from mainstem.runtime import run, serve
from mainstem.runtime.health import Health

async def work():
    print("running", flush=True)
    try:
        {body}
    finally:
        print("closed", flush=True)

async def main():
    settings = SimpleNamespace(http_host="127.0.0.1", http_port=0)
    await serve(SimpleNamespace(name="trial", health=Health(), settings=settings), [work])

run(main)
"""


def start(body: str) -> subprocess.Popen[str]:
    command = (sys.executable, "-c", PROGRAM.format(body=body))
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_a_service_within_two_seconds_and_closes_everything(number: signal.Signals) -> None:
    process = start("await asyncio.Event().wait()")
    assert process.stdout is not None
    assert process.stdout.readline() == "running\n"
    process.send_signal(number)
    assert process.communicate(timeout=2)[0] == "closed\n"
    assert process.returncode == 0


def test_a_fault_of_a_task_ends_the_process_and_is_logged() -> None:
    output, log = start("raise ArithmeticError('a fault of ours')").communicate(timeout=10)
    assert output == "running\nclosed\n"
    assert "a fault of ours" in log


async def test_a_lag_that_is_not_known_is_not_shown() -> None:
    lag, health = {("lag.a", 0): 7, ("lag.a", 1): 2}, Health()
    subscription = SimpleNamespace(lag=lambda: lag, assigned=lambda: True)

    def shown() -> dict[str, float]:
        found = [sample for metric in metrics.LAG.collect() for sample in metric.samples]
        return {sample.labels["partition"]: sample.value for sample in found if sample.labels["topic"] == "lag.a"}

    service = cast("Resources", SimpleNamespace(health=health))
    async with running(health.tick()):
        with Resources.watch(service, "trial", cast("Subscription", subscription)):
            await until(lambda: shown() == {"0": 7, "1": 2})
            del lag["lag.a", 1]
            await until(lambda: shown() == {"0": 7})
    assert shown() == {}


def raising(*faults: Exception) -> Callable[[], "asyncio.Future[str]"]:
    """Return work that fails with each fault once, then succeeds."""
    left = list(faults)

    async def work() -> str:
        if left:
            raise left.pop(0)
        return "done"

    return work  # type: ignore[return-value]


async def test_work_is_done_again_while_something_is_away_or_somebody_was_faster() -> None:
    assert await steadily(raising(Unavailable("away"), Conflict("lost")), longest_s=0.01) == "done"


async def test_any_other_fault_is_raised_at_once() -> None:
    with pytest.raises(Rejected):
        await steadily(raising(Rejected("no")))


async def test_samples_are_taken_while_the_loop_turns() -> None:
    health, taken = Health(), []
    health.every_tick("sample", lambda: taken.append(1))
    async with running(health.tick()):
        await until(lambda: taken)


def test_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    given = {"KAFKA": "k:1", "DATABASE_URL": "postgresql://d", "ARTIFACTS": str(tmp_path), "HTTP_PORT": "80"}
    for name, value in given.items():
        monkeypatch.setenv(f"MAINSTEM_{name}", value)
    settings = ServiceSettings()  # type: ignore[call-arg]
    assert (settings.kafka, settings.http_port, settings.principals) == ("k:1", 80, None)


def test_nothing_is_guessed_that_was_not_said() -> None:
    with pytest.raises(ValidationError, match="database_url"):
        ServiceSettings()  # type: ignore[call-arg]
