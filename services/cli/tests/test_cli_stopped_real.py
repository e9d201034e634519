"""What a person sees of a feature set that stands still before a gap, on a platform where no model reads it."""

import asyncio
import json

import httpx
import pytest
from services.cli.tests.flights_platform import CHECKOUT, Shell, hollow

from mainstem.bus.kafka import KafkaBus
from mainstem.cli.local import session
from mainstem.cli.local.platform import Platform
from mainstem.events.envelope import Message
from mainstem.testkit.projects import shop

pytestmark = pytest.mark.real

SERVICES = ["ingestion", "features", "registry", "monitoring"]
ORDERS = 20


@pytest.fixture(scope="module")
async def platform(tmp_path_factory):
    root, cache = tmp_path_factory.mktemp("stopped"), CHECKOUT / ".mainstem" / "cache"
    async with Platform(root, fast=True, services=SERVICES, cache=cache) as platform:
        await apply(platform, shop(replay=False))
        yield platform


@pytest.fixture(scope="module")
async def stopped(platform):
    """Tell of orders, then lose a record of the log; return the set as it was listed before, and as it is then."""
    shell = Shell(platform)
    async with KafkaBus(platform.env["MAINSTEM_KAFKA"], "till") as bus:
        for number in range(ORDERS):
            value = json.dumps({"shop": "s", "amount": number}).encode()
            await bus.publisher.publish([Message("src.orders", b"s", value, (), 0)])
    (before,) = await shell.until(lambda rows: rows[0]["rows"] == ORDERS, "feature", "list")
    await hollow(platform, "evt.data.orders")
    (then,) = await shell.until(lambda rows: rows[0]["state"] == "stopped", "feature", "list")
    return before, then


async def apply(platform, definition):
    tokens = {line["name"]: line["token"] for line in json.loads(platform.home.principals.read_text())}
    async with httpx.AsyncClient(base_url=platform.env["MAINSTEM_REGISTRY_URL"], timeout=30) as registry:
        headers = {"authorization": f"Bearer {tokens['builder']}"}
        body = {"definition": definition.model_dump(mode="json")}
        assert (await registry.post("/v1/projects", json=body, headers=headers)).status_code == 201


async def test_it_is_listed_as_it_stood_with_the_reason(platform, stopped):
    before, then = stopped
    assert then["reason"].startswith("evt.data.orders/0 goes on at offset ")
    changed = {"state", "reason", "reached", "held"}
    assert {name: then[name] for name in then.keys() - changed} == {
        name: before[name] for name in before if name not in changed
    }
    told = await Shell(platform).run("feature", "list")
    assert told.stderr == f"buying stands still, it is listed as it was when it stopped: {then['reason']}\n"


async def test_the_platform_says_why_the_service_is_not_ready(platform, stopped):
    rows = await asyncio.to_thread(session.rows, platform.state())
    assert {row["process"]: row["status"] for row in rows}["features"] == "not ready"
    (reason,) = [row["reason"] for row in rows if row["reason"]]
    assert reason == f"feature set buying: {stopped[1]['reason']}"


async def test_it_is_an_alert_that_an_operator_closes(platform, stopped):
    shell = Shell(platform)
    (alert,) = await shell.until(bool, "alert", "list", "--status", "open")
    assert (alert["kind"], alert["feature_set"], alert["model"]) == ("feature_gap", "buying", None)
    assert (alert["gap"]["topic"], alert["gap"]["partition"]) == ("evt.data.orders", 0)
    (closed,) = await shell.answer("alert", "close", alert["alert"], "-m", "the next version is declared")
    assert (closed["open"], await shell.answer("alert", "list", "--status", "open")) == (False, [])


async def test_it_is_listed_as_it_stood_also_by_a_process_that_was_started_again(platform, stopped):
    platform.kill("features")
    (again,) = await Shell(platform).until(lambda rows: rows[0]["state"] == "stopped", "feature", "list")
    assert (again["reason"], again["late"]) == (stopped[1]["reason"], stopped[1]["late"])
    assert again["rows"] is not None
