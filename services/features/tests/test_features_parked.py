"""What a set left out: late records and junk are counted, warned of with their place, and found again."""

from collections.abc import Iterable
from dataclasses import replace

import pytest
from services.features.tests.features_history import (
    ANNOUNCED,
    PLACES,
    SECOND,
    History,
    Kept,
    Process,
    accepted,
    marker,
    renamed,
)
from typing_extensions import override

from mainstem.events.instants import render
from mainstem.features.answers import Answers
from mainstem.features.api import Api
from mainstem.features.ports import Left, Progress
from mainstem.features.store import PostgresStore
from mainstem.fold.gap import Gap
from mainstem.project import Column, ProjectDefinition, category, fixed, source
from mainstem.storage import Database, open_database
from mainstem.telemetry import metrics
from mainstem.testkit.callers import calling, principals
from mainstem.testkit.clock import DAY
from mainstem.testkit.projects import shop
from mainstem.testkit.records import Log, Taken

WEEK = 7 * DAY
PAYMENTS = PLACES[2]


def late(number: int) -> Taken:
    """Return a payment that became known a week after it happened."""
    return renamed(accepted("payments", 0, number, WEEK, 1.0), ce_time=render(0).encode())


def ending(*payments: Taken) -> History:
    """Return a history that ends a week later, with some payments before its end."""
    found = {}
    for place, records in ANNOUNCED.items():
        added = [*records, *(payments if place == PAYMENTS else ())]
        source = place[0].removeprefix("evt.data.")
        found[place] = [*added, marker(source, place[1], len(added), WEEK + SECOND)]
    return found


FIRST = len(ANNOUNCED[PAYMENTS])
LATE = [late(FIRST), late(FIRST + 1)]


async def after(*payments: Taken, definition: ProjectDefinition | None = None) -> Process:
    """Return a process that has read everything and stored it."""
    process = Process(ending(*payments), definition)
    await process.finish()
    return process


def widened() -> ProjectDefinition:
    """Return the shop's project with a contract that lets more be paid than its set was compiled for."""
    definition = shop()
    paid = fixed("what was paid", unit="eur", lo=0, hi=9_000, scale=100)
    columns: dict[str, Column] = {"shop": category("the shop"), "paid": paid}
    wide = source("payments", key="shop", columns=columns, replay=True)
    return definition.model_copy(update={"sources": {**definition.sources, "payments": wide}})


def counted(name: str, **labels: str) -> float:
    return metrics.REGISTRY.get_sample_value(name, {"feature_set": "buying", **labels}) or 0.0


async def test_late_records_are_counted_by_stream_and_known_after_a_restart() -> None:
    before = counted("mainstem_feature_late_total", stream="payments")
    process = await after(*LATE)
    assert process.fold.late == {"orders": 0, "payments": 2}
    process.restart()
    assert process.fold.late == {"orders": 0, "payments": 2}
    assert counted("mainstem_feature_late_total", stream="payments") == before + 2


async def test_values_out_of_range_are_counted_by_column_and_once_though_the_service_restarts() -> None:
    before = counted("mainstem_feature_out_of_range_total", column="payments.paid")
    process = await after(accepted("payments", 0, FIRST, WEEK, 8_000.0), definition=widened())
    for _ in range(2):
        process.restart()
        await process.finish()
    assert process.fold.out_of_range == {"payments.paid": 1}
    assert counted("mainstem_feature_out_of_range_total", column="payments.paid") == before + 1


def warned(caplog: pytest.LogCaptureFixture, action: str) -> list[str]:
    """Return what was warned of."""
    found = [record for record in caplog.records if record.__dict__.get("action") == action]
    assert {record.levelname for record in found} <= {"WARNING"}
    return [record.getMessage() for record in found]


async def test_what_is_parked_is_warned_of_with_its_place_and_id_a_line_for_each_reason(
    caplog: pytest.LogCaptureFixture,
) -> None:
    await after(*LATE, replace(accepted("payments", 0, FIRST + 2, WEEK, 1.0), value=b"{"))
    junk, too_late = sorted(warned(caplog, "parked"), key=lambda line: "it became known" in line)
    assert junk.startswith(
        f"buying parked evt.data.payments/0/{FIRST + 2} (payments-0-{FIRST + 2}): this is no accepted"
    )
    more = "and 1 more, see `mainstem feature parked buying`: it became known more than 86400 s after it happened"
    assert too_late.startswith(f"buying parked evt.data.payments/0/{FIRST} (payments-0-{FIRST}) {more}")


async def listed(process: Process, parking: Kept | PostgresStore, query: str = "") -> list[dict[str, object]]:
    """Return what the service lists as parked."""
    answers = Answers(Log())
    with answers.stopped("buying", process.fold.compiled.id, "it stands still"):
        async with calling(Api(answers, principals({}), parking).routes()) as caller:
            answer = await caller.get(f"/v1/feature-sets/buying/parked{query}")
    assert answer.status_code == 200, answer.text
    return list(answer.json()["parked"])


def places(found: Iterable[dict[str, object]]) -> list[object]:
    return [each["offset"] for each in found]


async def test_what_was_parked_is_listed_newest_first() -> None:
    process = await after(*LATE)
    first, second = await listed(process, process.store)
    assert (first["offset"], second["offset"]) == (FIRST + 1, FIRST)
    assert first.keys() == {"topic", "partition", "offset", "id", "reason"}
    assert (first["topic"], first["partition"], first["id"]) == (*PAYMENTS, f"payments-0-{FIRST + 1}")
    assert "it became known more than 86400 s after it happened" in str(first["reason"])
    assert places(await listed(process, process.store, "?limit=1")) == [FIRST + 1]


@pytest.mark.parametrize(("path", "status"), [("buying/parked?limit=few", 400), ("buing/parked", 404)])
async def test_a_list_that_there_is_not_is_refused(path: str, status: int) -> None:
    answers = Answers(Log())
    with answers.none_of("buying", "sha256:b"):
        async with calling(Api(answers, principals({}), Kept()).routes()) as caller:
            assert (await caller.get(f"/v1/feature-sets/{path}")).status_code == status


class Also(Kept):
    """Keeps progress in the database too, under another identity."""

    def __init__(self, store: PostgresStore, definition: str) -> None:
        super().__init__()
        self._store, self._definition = store, definition

    @override
    async def save(self, progress: Progress) -> None:
        """Keep it in both places."""
        await self._store.save(replace(progress, definition=self._definition))


@pytest.fixture
async def database(database_url: str) -> Database:
    return await open_database(database_url, "features", "mainstem.features")


@pytest.mark.real
async def test_sets_that_park_the_same_record_list_it_each(database: Database) -> None:
    store, process = PostgresStore(database), Process(ending(*LATE))
    for place in process.history:
        await process.poll(place, 1_000)
    await process.checkpoint(Also(store, "sha256:other"))
    other = await store.parked("sha256:other", 10)
    process = Process(ending(*LATE))
    await process.finish(store)
    assert places(await listed(process, store)) == [FIRST + 1, FIRST]
    assert await store.parked(process.fold.compiled.id, 10) == other
    assert isinstance(other[0], Left)
    await database.close()


# --- where a set begins


def begun_late(at: int = 2) -> Process:
    """Return a process over a log of which one partition has lost its first records."""
    records = [replace(record, offset=record.offset + at) for record in ANNOUNCED[PAYMENTS]]
    return Process({**ANNOUNCED, PAYMENTS: records})


async def test_a_set_that_begins_without_the_first_records_says_so_once(caplog: pytest.LogCaptureFixture) -> None:
    process = begun_late()
    await process.finish()
    process.restart()
    await process.take([])
    assert process.fold.begins_at == {PAYMENTS: 2}
    assert warned(caplog, "begun_late") == [
        "buying begins at offset 2 of evt.data.payments/0: the records before are gone, "
        "so values that look back beyond it are computed without them"
    ]


async def test_a_set_that_begins_with_the_first_records_begins_nowhere_else(caplog: pytest.LogCaptureFixture) -> None:
    process = await after()
    assert (process.fold.begins_at, warned(caplog, "begun_late")) == ({}, [])


async def test_a_set_that_found_a_partition_empty_begins_with_what_comes_there(
    caplog: pytest.LogCaptureFixture,
) -> None:
    process = begun_late()
    await process.empty(PAYMENTS, 2)
    await process.checkpoint()
    process.restart()
    for records in process.history.values():
        await process.take(records)
    assert process.fold.begins_at == {PAYMENTS: 2}
    assert len(warned(caplog, "begun_late")) == 1


async def test_a_set_whose_next_record_is_gone_goes_no_further() -> None:
    # What was read and is held back is not in the state: it is due again.
    process, found = begun_late(), r"^evt\.data\.payments/0 goes on at offset 4, 2 is due: records between are gone;"
    await process.take(process.history[PAYMENTS][:1])
    await process.empty(PAYMENTS, 3)
    with pytest.raises(Gap, match=found):
        await process.empty(PAYMENTS, 4)
    with pytest.raises(Gap, match=found):
        await process.take(process.history[PAYMENTS][2:])


async def test_a_set_whose_log_was_made_anew_goes_no_further() -> None:
    process = Process(ANNOUNCED)
    await process.finish()
    end = len(ANNOUNCED[PAYMENTS])
    anew = r"^evt\.data\.payments/0 goes on at offset 0, \d+ is due: the log was cut off or made anew;"
    with pytest.raises(Gap, match=anew):
        await process.empty(PAYMENTS, 0)
    with pytest.raises(Gap, match=anew):
        await process.take([replace(accepted("payments", 0, end, 30 * DAY, 1.0), offset=0)])


async def test_a_set_that_was_stored_before_it_applied_anything_there_goes_on_after_a_restart() -> None:
    process = begun_late()
    for place in ANNOUNCED:
        if place != PAYMENTS:
            await process.poll(place, 1_000)
    await process.take(process.history[PAYMENTS][:1])
    await process.checkpoint()
    process.restart()
    for records in process.history.values():
        await process.take(records)
    assert process.fold.begins_at == {PAYMENTS: 2}
