"""The HTTP intake on the real PostgreSQL, with a log that is a list."""

import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from mainstem.auth import Principals
from mainstem.events.fence import Fence
from mainstem.ingestion.api import Api
from mainstem.ingestion.engine import Judge
from mainstem.ingestion.handlers import Intake
from mainstem.ingestion.store import PostgresStore, set_project
from mainstem.runtime.health import Health
from mainstem.runtime.http import MAX_BODY_BYTES, application
from mainstem.storage import open_database
from mainstem.telemetry import Tracer
from mainstem.testkit.projects import applied, shop
from mainstem.testkit.records import Log

pytestmark = pytest.mark.real

TOKEN, OTHER = "a" * 32, "b" * 32
PRINCIPALS = Principals.parse(
    json.dumps(
        [
            {"name": "ann", "roles": ["operator"], "token": TOKEN},
            {"name": "bob", "roles": ["builder"], "token": OTHER},
        ]
    )
)
RECORDS, QUARANTINE = "/v1/sources/orders/records", "/v1/quarantine"
GOOD, BROKEN = {"shop": "a", "amount": 1}, {"shop": "a"}


class Ingestion:
    """The API, and an intake that takes what it published."""

    def __init__(self, store: PostgresStore, http: httpx.AsyncClient, log: Log) -> None:
        self.http = http
        self.log = log
        self._store = store
        judges = {f"src.{name}": Judge(c, Tracer("test", None)) for name, c in shop(replay=False).sources.items()}
        self._intake = Intake(judges, Fence(), {})

    async def judge(self) -> None:
        """Judge what was sent and store the verdicts."""
        await self._intake.on_records(self.log.of("src.orders"), publisher=self.log)
        await self._intake.checkpoint(self._store)

    async def quarantined(self) -> dict[str, Any]:
        """Return the one quarantined record."""
        (row,) = (await self.http.get(QUARANTINE)).json()["quarantined"]
        return dict(row)


@pytest.fixture
async def ingestion(database_url: str) -> AsyncIterator[Ingestion]:
    database = await open_database(database_url, "ingestion", "mainstem.ingestion")
    async with database.transaction() as tx:
        await set_project(tx, applied(shop(replay=False)))
    store, log = PostgresStore(database), Log()
    transport = httpx.ASGITransport(application(Health(), Api(store, PRINCIPALS, log.publish).routes()))
    headers = {"authorization": f"Bearer {TOKEN}"}
    async with httpx.AsyncClient(transport=transport, base_url="http://ingestion", headers=headers) as http:
        yield Ingestion(store, http, log)
    await database.close()


def said(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json().get("title", "")


async def test_a_record_is_taken_byte_for_byte_and_keyed_by_the_contract(ingestion: Ingestion) -> None:
    body = b'{ "shop":"a", "amount":1.50 }'
    answer = await ingestion.http.post(RECORDS, content=body, headers={"ce-id": "7", "ce-time": "2013-05-01T04:00:00Z"})
    assert (answer.status_code, answer.json()) == (202, {"source": "orders", "taken": 1})
    (record,) = ingestion.log.records
    assert (record.topic, record.key, record.value) == ("src.orders", b"a", body)
    assert dict(record.headers) == {"ce_specversion": b"1.0", "ce_id": b"7", "ce_time": b"2013-05-01T04:00:00Z"}


async def test_an_array_is_taken_record_by_record(ingestion: Ingestion) -> None:
    answer = await ingestion.http.post(RECORDS, json=[GOOD, 7, BROKEN])
    assert answer.json()["taken"] == 3
    assert [json.loads(record.value or b"") for record in ingestion.log.records] == [GOOD, 7, BROKEN]


@pytest.mark.parametrize(
    ("content", "headers", "wanted"),
    [
        (b"[1,", {}, (400, "malformed json")),
        (b"[" * 300 + b"]" * 300, {}, (400, "malformed json")),
        (b"[1,2]", {"ce-id": "7"}, (400, "one record only")),
        (b" " * (MAX_BODY_BYTES + 1), {}, (413, "too large")),
    ],
    ids=["malformed", "too deep", "headers for many", "too large"],
)
async def test_a_body_that_cannot_be_taken_is_refused_whole(
    ingestion: Ingestion, content: bytes, headers: dict[str, str], wanted: tuple[int, str]
) -> None:
    assert said(await ingestion.http.post(RECORDS, content=content, headers=headers)) == wanted
    assert ingestion.log.records == []


async def test_a_record_that_is_no_json_is_taken_and_quarantined_with_all_others(ingestion: Ingestion) -> None:
    assert (await ingestion.http.post(RECORDS, content=b"?")).status_code == 202
    await ingestion.judge()
    assert (await ingestion.quarantined())["reason"] == "malformed_json"


async def test_an_unknown_source_is_named_with_those_that_are_known(ingestion: Ingestion) -> None:
    answer = await ingestion.http.post("/v1/sources/refunds/records", json=GOOD)
    assert said(answer) == (404, "unknown source")
    assert answer.json()["detail"] == "no source 'refunds'; known: orders, payments"


@pytest.mark.parametrize(("token", "status"), [("", 401), (OTHER, 403)])
@pytest.mark.parametrize("path", [RECORDS, f"{QUARANTINE}/x/redrive"])
async def test_who_may_not_operate_changes_nothing(ingestion: Ingestion, token: str, status: int, path: str) -> None:
    answer = await ingestion.http.post(path, json=GOOD, headers={"authorization": f"Bearer {token}"})
    assert answer.status_code == status
    assert ingestion.log.records == []


async def test_a_quarantined_record_is_corrected_at_its_own_time(ingestion: Ingestion) -> None:
    await ingestion.http.post(RECORDS, json=BROKEN, headers={"ce-id": "7", "ce-time": "2099-12-31T12:00:00Z"})
    await ingestion.judge()
    row = await ingestion.quarantined()
    path = f"{QUARANTINE}/{row['quarantine_id'][:10]}/redrive"
    answer = await ingestion.http.post(path, json={"record": GOOD})
    assert (answer.status_code, answer.json()["quarantine_id"]) == (202, row["quarantine_id"])
    correction = dict(ingestion.log.records[-1].headers)
    assert correction["ce_time"] == b"2099-12-31T12:00:00Z"
    assert correction["ce_recordedtime"].decode() == row["recorded_time"]
    await ingestion.judge()
    assert (await ingestion.quarantined())["accepted_id"] is not None
    assert said(await ingestion.http.post(path, json={"record": GOOD})) == (409, "already redriven")


async def test_a_correction_may_set_right_a_time_that_could_not_be_read(ingestion: Ingestion) -> None:
    await ingestion.http.post(RECORDS, json=GOOD, headers={"ce-id": "7", "ce-time": "yesterday"})
    await ingestion.judge()
    path = f"{QUARANTINE}/{(await ingestion.quarantined())['quarantine_id']}/redrive"
    assert said(await ingestion.http.post(path, json={"record": GOOD, "time": "noon"})) == (400, "bad time")
    answer = await ingestion.http.post(path, json={"record": GOOD, "time": "2099-12-31T12:00:00Z"})
    assert answer.status_code == 202
    await ingestion.judge()
    assert (await ingestion.quarantined())["accepted_id"] is not None


@pytest.mark.parametrize("body", [b"{}", b"[]", b'{"record":7}'])
async def test_a_correction_needs_a_record(ingestion: Ingestion, body: bytes) -> None:
    await ingestion.http.post(RECORDS, json=BROKEN)
    await ingestion.judge()
    path = f"{QUARANTINE}/{(await ingestion.quarantined())['quarantine_id']}/redrive"
    assert said(await ingestion.http.post(path, content=body)) == (400, "record missing")


async def test_an_unknown_quarantine_id_is_not_found(ingestion: Ingestion) -> None:
    assert said(await ingestion.http.get(f"{QUARANTINE}/nothing")) == (404, "unknown quarantine id")
    redriven = await ingestion.http.post(f"{QUARANTINE}/nothing/redrive", json={"record": GOOD})
    assert said(redriven) == (404, "unknown quarantine id")


async def test_one_quarantined_record_is_shown_with_its_payload(ingestion: Ingestion) -> None:
    await ingestion.http.post(RECORDS, json=BROKEN)
    await ingestion.judge()
    row = await ingestion.quarantined()
    shown = (await ingestion.http.get(f"{QUARANTINE}/{row['quarantine_id']}")).json()
    assert (shown["payload_bytes"], shown["reason"], "payload" in row) == (12, "missing_field", False)
    assert shown["payload"] == "eyJzaG9wIjoiYSJ9"


@pytest.mark.parametrize(
    ("query", "wanted"), [("limit=-1", "bad limit"), ("limit=x", "bad limit"), ("status=lost", "unknown status")]
)
async def test_a_question_that_makes_no_sense_is_refused(ingestion: Ingestion, query: str, wanted: str) -> None:
    assert said(await ingestion.http.get(f"{QUARANTINE}?{query}")) == (400, wanted)
