"""The store on the real PostgreSQL: the same events as in memory, tables that follow from them, and what HTTP shows."""

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from services.monitoring.tests.monitoring_story import (
    World,
    applied,
    checked,
    day,
    drifting,
    prediction,
    promoted,
    registered,
    stopped,
)

from mainstem.events.catalogue import BY_TYPE
from mainstem.events.envelope import Event, read_envelope
from mainstem.events.instants import render
from mainstem.events.monitoring import (
    AlertClosed,
    AlertOpened,
    FeatureAlertOpened,
    FeatureSetAlertClosed,
    FeatureSetAlertOpened,
    RetrainingAsked,
)
from mainstem.monitoring.api import Api
from mainstem.monitoring.memory import MemoryStore
from mainstem.monitoring.store import PROJECTIONS, PostgresStore, apply
from mainstem.storage import Artifacts, Database
from mainstem.testkit.callers import Caller, calling, principals
from mainstem.testkit.clock import DAY, MAY
from mainstem.testkit.databases import opened, tables
from mainstem.testkit.projects import storms

pytestmark = pytest.mark.real

LOG = "select headers, payload from event_log order by seq"
PEOPLE = {"olga": ["operator"], "rita": ["operator", "replay"], "dana": ["builder"]}
#: What puts another version into the place of the first, two days after the drift.
REPLACED = promoted(2, MAY + 6 * DAY, replaces=1)

Memory, Real = World[MemoryStore], World[PostgresStore]


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    async with opened(database_url, "monitoring", "mainstem.monitoring") as database:
        yield database


@pytest.fixture
async def begun(database: Database, artifacts: Artifacts) -> Real:
    """Return a watch on PostgreSQL; nothing was said yet."""
    return await World(PostgresStore(database), artifacts).begun()


@pytest.fixture
async def judged(begun: Real) -> Real:
    """Return a watch on PostgreSQL after a drift that nobody answered, with some crashes on the way."""
    return await begun.play(drifting(), seed=3, crashes=0.1)


@pytest.fixture
async def api(judged: Real) -> AsyncIterator[Caller]:
    async with calling(Api(judged.store, principals(PEOPLE)).routes()) as caller:
        yield caller


async def logged(database: Database) -> list[Event]:
    """The events appended so far, in their order."""
    async with database.transaction() as tx:
        rows = await tx.fetch(LOG)
    found = []
    for row in rows:
        envelope = read_envelope(tuple((name, value.encode()) for name, value in row["headers"]))
        found.append(Event(envelope, BY_TYPE[envelope.type].model_validate_json(row["payload"])))
    return found


async def own(database: Database) -> list[Event]:
    return [event for event in await logged(database) if event.envelope.source == "/mainstem/monitoring"]


async def alerts(api: Caller, query: str = "") -> list[dict[str, Any]]:
    return list((await api.get(f"/v1/alerts{query}")).json()["alerts"])


async def the_alert(api: Caller) -> dict[str, Any]:
    return next(row for row in await alerts(api) if row["kind"] == "feature_drift")


async def closed(api: Caller, by: str | None, **body: object) -> httpx.Response:
    return await api.post(f"/v1/alerts/{(await the_alert(api))['alert']}/close", by, **body)


async def test_postgresql_and_memory_lead_to_the_same_events(world: Memory, database: Database, judged: Real) -> None:
    await world.play(drifting())
    for each in (world, judged):
        await each.told(REPLACED)
    assert await own(database) == world.own
    assert {type(event.fact) for event in world.own} >= {AlertOpened, RetrainingAsked, AlertClosed}


async def test_a_promotion_read_early_closes_the_same_alerts_on_postgresql(
    world: Memory, database: Database, begun: Real
) -> None:
    for each in (world, begun):
        await each.told(REPLACED)
        await each.play(drifting())
    assert await own(database) == world.own


#: A set that the project declares, and no model in production reads.
UNREAD = storms().feature_sets["gusts"].id
FOUND = [
    checked("text", MAY + 7 * DAY),
    stopped("text", MAY + 7 * DAY),
    checked("text", MAY + 8 * DAY),
    promoted(2, MAY + 9 * DAY, replaces=1),
    registered(3, "sha256:profile", feature_set="other"),
    checked("other", MAY),
    promoted(3, MAY + 10 * DAY, replaces=2),
    stopped(UNREAD, MAY + 11 * DAY),
    checked(UNREAD, MAY + 11 * DAY),
    applied(storms(mean_over="1h"), MAY + 12 * DAY),
    applied(storms(), MAY + 13 * DAY),
]


async def test_findings_about_feature_sets_lead_to_the_same_alerts_on_postgresql(
    world: Memory, database: Database, begun: Real
) -> None:
    for each in (world, begun):
        await each.told(*FOUND, *FOUND[:3])
    assert await own(database) == world.own
    facts = [type(event.fact) for event in world.own]
    assert (facts.count(FeatureAlertOpened), facts.count(AlertClosed)) == (3, 2)
    assert (facts.count(FeatureSetAlertOpened), facts.count(FeatureSetAlertClosed)) == (4, 2)


async def test_the_tables_are_the_fold_of_the_log(database: Database, database_url: str, judged: Real) -> None:
    await judged.told(REPLACED, *FOUND)
    live = await tables(database, PROJECTIONS)
    async with opened(database_url, "replayed", "mainstem.monitoring") as replayed:
        for event in await logged(database):
            async with replayed.transaction() as tx:
                await apply(tx, event.at_origin("monitoring@x/1"))
        assert await tables(replayed, PROJECTIONS) == live
    assert all(live.values())


async def test_a_record_that_is_no_prediction_is_kept_with_its_reason(begun: Real, database: Database) -> None:
    *head, _ = prediction("b", MAY)
    await begun.play([(*head, b"\xff"), *day(0)])
    await begun.watching.checkpoint()
    async with database.transaction() as tx:
        (parked,) = await tx.fetch("select topic, reason from parked")
    assert parked["topic"] == "tel.prediction.storm"


async def test_monitors_show_the_last_figures_of_the_version_in_production(api: Caller) -> None:
    (monitor,) = (await api.get("/v1/monitors")).json()["monitors"]
    assert (monitor["model"], monitor["project"], monitor["version"]) == ("storm", "weather", 1)
    assert monitor["answers_from"] == render(MAY - DAY // 24)
    assert monitor["last"]["end_time"] == render(MAY + 4 * DAY)
    assert monitor["last"]["figures"]["psi"]["wind"] > 0.5


async def test_windows_come_newest_first_and_no_more_than_asked(api: Caller) -> None:
    windows = (await api.get("/v1/monitors/storm/windows?limit=2")).json()["windows"]
    assert [row["end_time"] for row in windows] == [render(MAY + 4 * DAY), render(MAY + 3 * DAY)]


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("/v1/monitors/nothing/windows", 404, "unknown_model"),
        ("/v1/monitors/storm/windows?limit=0", 400, "bad_limit"),
        ("/v1/monitors/storm/windows?limit=x", 400, "bad_limit"),
        ("/v1/alerts?status=lost", 400, "bad_status"),
        ("/v1/alerts/xyz", 404, "unknown_alert"),
    ],
)
async def test_what_cannot_be_shown_is_said_why(api: Caller, path: str, status: int, code: str) -> None:
    answer = await api.get(path)
    assert (answer.status_code, answer.json()["type"]) == (status, f"mainstem:{code}")


async def test_an_alert_is_shown_by_a_prefix_with_what_it_asked_for(api: Caller) -> None:
    alert = await the_alert(api)
    found = (await api.get(f"/v1/alerts/{alert['alert'][:8]}")).json()
    assert (found["kind"], found["outcome"], found["open"]) == ("feature_drift", "asked", True)
    assert [asked["cut"] for asked in found["retrainings"]] == [render(MAY + 4 * DAY)]


async def test_an_operator_closes_an_alert_once(api: Caller, database: Database) -> None:
    answer = (await closed(api, "rita", reason="a known storm", at="2013-05-09T00:00:00Z")).json()
    assert (answer["open"], answer["closed_by"], answer["closed_reason"]) == (False, "rita", "a known storm")
    assert (await own(database))[-1].envelope.correlation == answer["alert"]
    again = await closed(api, "rita", reason="a known storm")
    assert (again.status_code, again.json()["type"]) == (409, "mainstem:already_closed")


async def test_an_alert_on_a_set_is_listed_without_a_model_and_an_operator_closes_it(judged: Real, api: Caller) -> None:
    await judged.told(stopped(UNREAD, MAY + 7 * DAY))
    (found,) = [row for row in await alerts(api, "?status=open") if row["kind"] == "feature_gap"]
    assert (found["model"], found["version"], found["feature_set"]) == (None, None, "gusts")
    answer = (await api.post(f"/v1/alerts/{found['alert']}/close", "olga", reason="restored")).json()
    assert (answer["open"], answer["closed_by"]) == (False, "olga")
    again = await api.post(f"/v1/alerts/{found['alert']}/close", "olga", reason="restored")
    assert again.status_code == 409


async def test_open_and_closed_alerts_are_listed_apart(api: Caller) -> None:
    await closed(api, "olga", reason="seen")
    assert [row["kind"] for row in await alerts(api, "?status=closed&model=storm")] == ["feature_drift"]
    assert [row["kind"] for row in await alerts(api, "?status=open")] == ["prediction_drift"]


@pytest.mark.parametrize(
    ("by", "body", "status"),
    [
        (None, {"reason": "r"}, 401),
        ("dana", {"reason": "r"}, 403),
        ("olga", {"reason": " "}, 400),
        ("olga", {"reason": "r", "at": "2013-05-09T00:00:00Z"}, 403),
        ("rita", {"reason": "r", "at": "soon"}, 400),
    ],
)
async def test_who_may_not_or_does_not_say_why_closes_nothing(
    api: Caller, by: str | None, body: dict[str, str], status: int
) -> None:
    assert (await closed(api, by, **body)).status_code == status
    assert (await the_alert(api))["open"]
