"""The store on the real PostgreSQL: the same events as in memory, tables that follow from them, and what HTTP shows."""

import json

import httpx
import pytest

from mainstem.auth import Principals
from mainstem.events.catalogue import BY_TYPE
from mainstem.events.envelope import Event, read_envelope
from mainstem.events.instants import render
from mainstem.events.monitoring import AlertClosed, AlertOpened, RetrainingAsked
from mainstem.monitoring.api import Api
from mainstem.monitoring.store import PROJECTIONS, PostgresStore, apply
from mainstem.runtime.health import Health
from mainstem.runtime.http import application
from mainstem.storage import open_database

pytestmark = pytest.mark.real

MAY = 1_367_366_400_000_000
DAY = 86_400_000_000
LOG = "select headers, payload from event_log order by seq"
ROWS = "select coalesce(array_agg(t::text order by t::text), '{{}}') as rows from {} t"


@pytest.fixture
async def database(database_url):
    made = await open_database(database_url, "monitoring", "mainstem.monitoring")
    yield made
    await made.close()


@pytest.fixture
async def judged(world, say, database):
    """Return a world on PostgreSQL after a drift that nobody answered, with some crashes on the way."""
    made = await world(store=PostgresStore(database)).begun()
    return await made.play(drifting(say), seed=3, crashes=0.1)


@pytest.fixture
async def call(judged):
    """Return a way to call the API in somebody's name."""
    lines = [{"name": name, "roles": roles, "token": f"token-of-{name:>10}"} for name, roles in PEOPLE.items()]
    app = application(Health(), Api(judged.store, Principals.parse(json.dumps(lines))).routes())
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://monitoring") as client:

        async def made(method, path, by=None, **body):
            headers = {"authorization": f"Bearer token-of-{by:>10}"} if by else {}
            return await client.request(method, path, json=body or None, headers=headers)

        yield made


PEOPLE = {"olga": ["operator"], "rita": ["operator", "replay"], "dana": ["builder"]}


def drifting(say):
    return [one for n in range(5) for one in say.day(n, shift=1.0 if n >= 2 else 0.0)]


async def logged(database):
    """The events appended so far, in their order."""
    async with database.transaction() as tx:
        rows = await tx.fetch(LOG)
    found = []
    for row in rows:
        envelope = read_envelope(tuple((name, value.encode()) for name, value in row["headers"]))
        found.append(Event(envelope, BY_TYPE[envelope.type].model_validate_json(row["payload"])))
    return found


async def own(database):
    return [event for event in await logged(database) if event.envelope.source == "/mainstem/monitoring"]


async def tables(database):
    async with database.transaction() as tx:
        return {name: (await tx.fetch(ROWS.format(name)))[0]["rows"] for name in PROJECTIONS}


async def the_alert(call):
    return next(row for row in (await call("GET", "/v1/alerts")).json()["alerts"] if row["kind"] == "feature_drift")


async def test_postgresql_and_memory_lead_to_the_same_events(world, say, database, judged):
    memory = await (await world().begun()).play(drifting(say))
    await memory.told(say.promoted(2, MAY + 6 * DAY, replaces=1))
    await judged.told(say.promoted(2, MAY + 6 * DAY, replaces=1))
    assert await own(database) == memory.own
    assert {type(event.fact) for event in memory.own} >= {AlertOpened, RetrainingAsked, AlertClosed}


async def test_a_promotion_read_early_closes_the_same_alerts_on_postgresql(world, say, database):
    memory, made = await world().begun(), await world(store=PostgresStore(database)).begun()
    for each in (memory, made):
        await each.told(say.promoted(2, MAY + 6 * DAY, replaces=1))
        await each.play(drifting(say))
    assert await own(database) == memory.own


async def test_the_tables_are_the_fold_of_the_log(say, database, database_url, judged):
    await judged.told(say.promoted(2, MAY + 6 * DAY, replaces=1))
    replayed = await open_database(database_url, "replayed", "mainstem.monitoring")
    for event in await logged(database):
        async with replayed.transaction() as tx:
            await apply(tx, event.at_origin("monitoring@x/1"))
    live = await tables(database)
    assert await tables(replayed) == live
    assert all(live.values())
    await replayed.close()


async def test_a_record_that_is_no_prediction_is_kept_with_its_reason(world, say, database):
    place, recorded, time, _ = say.prediction("b", MAY)
    made = await world(store=PostgresStore(database)).begun()
    await made.play([(place, recorded, time, b"\xff"), *say.day(0)])
    await made.watching.checkpoint()
    async with database.transaction() as tx:
        (parked,) = await tx.fetch("select topic, reason from parked")
    assert parked["topic"] == "tel.prediction.storm"


async def test_monitors_show_the_last_figures_of_the_version_in_production(call):
    (monitor,) = (await call("GET", "/v1/monitors")).json()["monitors"]
    assert (monitor["model"], monitor["project"], monitor["version"]) == ("storm", "weather", 1)
    assert monitor["answers_from"] == render(MAY - DAY // 24)
    assert monitor["last"]["end_time"] == render(MAY + 4 * DAY)
    assert monitor["last"]["figures"]["psi"]["wind"] > 0.5


async def test_windows_come_newest_first_and_no_more_than_asked(call):
    windows = (await call("GET", "/v1/monitors/storm/windows?limit=2")).json()["windows"]
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
async def test_what_cannot_be_shown_is_said_why(call, path, status, code):
    answer = await call("GET", path)
    assert (answer.status_code, answer.json()["type"]) == (status, f"mainstem:{code}")


async def test_an_alert_is_shown_by_a_prefix_with_what_it_asked_for(call):
    alert = await the_alert(call)
    found = (await call("GET", f"/v1/alerts/{alert['alert'][:8]}")).json()
    assert (found["kind"], found["outcome"], found["open"]) == ("feature_drift", "asked", True)
    assert [asked["cut"] for asked in found["retrainings"]] == [render(MAY + 4 * DAY)]


async def test_an_operator_closes_an_alert_once(call, database):
    alert = await the_alert(call)
    path = f"/v1/alerts/{alert['alert']}/close"
    answer = (await call("POST", path, "rita", reason="a known storm", at="2013-05-09T00:00:00Z")).json()
    assert (answer["open"], answer["closed_by"], answer["closed_reason"]) == (False, "rita", "a known storm")
    assert (await own(database))[-1].envelope.correlation == alert["alert"]
    again = await call("POST", path, "rita", reason="a known storm")
    assert (again.status_code, again.json()["type"]) == (409, "mainstem:already_closed")


async def test_open_and_closed_alerts_are_listed_apart(call):
    alert = await the_alert(call)
    await call("POST", f"/v1/alerts/{alert['alert']}/close", "olga", reason="seen")
    closed = (await call("GET", "/v1/alerts?status=closed&model=storm")).json()["alerts"]
    still = (await call("GET", "/v1/alerts?status=open")).json()["alerts"]
    assert [row["kind"] for row in closed] == ["feature_drift"]
    assert [row["kind"] for row in still] == ["prediction_drift"]


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
async def test_who_may_not_or_does_not_say_why_closes_nothing(call, by, body, status):
    alert = await the_alert(call)
    assert (await call("POST", f"/v1/alerts/{alert['alert']}/close", by, **body)).status_code == status
    assert (await the_alert(call))["open"]
