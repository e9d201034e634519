"""Values read without an event: what is answered and refused, and that the log gives every answer again."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, Literal

import pytest
from services.features.tests.features_history import ANNOUNCED, SECOND, Kept, Process
from typing_extensions import override

from mainstem.bus.port import OnBatch, Partition
from mainstem.events.catalogue import decode
from mainstem.events.data import RecordAccepted
from mainstem.events.envelope import Message
from mainstem.events.errors import Unavailable
from mainstem.events.features import OrderJournalled, RowComputed, ValuesRead
from mainstem.events.instants import parse, render
from mainstem.events.record import header
from mainstem.feature_engine.reference import Applied, Reference
from mainstem.features.answers import Answers
from mainstem.features.api import Api
from mainstem.features.history import History
from mainstem.testkit.callers import Caller, calling, principals
from mainstem.testkit.clock import DAY
from mainstem.testkit.projects import shop
from mainstem.testkit.records import Log

READ = "/v1/feature-sets/buying/read"
ENTITIES = [{"shop": "s00", "amount": 12.5}, {"shop": "s11"}, {"shop": "nobody", "amount": None}, {}]


class Read:
    """A subscription that is so many records behind in each of its partitions."""

    def __init__(self, behind: dict[Partition, int]) -> None:
        self.behind = behind

    async def run(self, on_batch: OnBatch) -> None:
        """Read nothing."""

    def assigned(self) -> bool:
        """Tell that there are partitions."""
        return True

    def lag(self) -> dict[Partition, int]:
        """Return how far it is behind."""
        return self.behind


class Away:
    """A publisher whose broker takes nothing."""

    async def publish(self, messages: Sequence[Message]) -> None:
        """Refuse."""
        raise Unavailable("Kafka did not take a message")


class Slow(Log):
    """A publisher whose broker answers when it is told to, and who waits for that whatever happens meanwhile."""

    def __init__(self) -> None:
        super().__init__()
        self.asked, self.answers = asyncio.Event(), asyncio.Event()

    @override
    async def publish(self, messages: Sequence[Message]) -> None:
        """Return when the broker answers."""
        self.asked.set()
        with suppress(asyncio.CancelledError):
            await self.answers.wait()
        await self.answers.wait()
        self.append(messages)


class Batch(asyncio.Lock):
    """What is held during a batch; tells when somebody asks for it."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = asyncio.Event()

    @override
    async def acquire(self) -> Literal[True]:
        """Wait for it."""
        self.asked.set()
        return await super().acquire()


@pytest.fixture
async def process() -> Process:
    """Return a process that has folded the whole history."""
    process = Process(ANNOUNCED)
    await process.finish()
    return process


@asynccontextmanager
async def asking(
    process: Process, publisher: Log | Away, behind: int = 0, lock: asyncio.Lock | None = None
) -> AsyncIterator[Caller]:
    answers = Answers(publisher)
    spine = process.definition.sources["orders"]
    subscription = Read(dict.fromkeys(process.fold.positions, behind))
    with answers.of(process.fold, spine, subscription, lock or asyncio.Lock()):
        async with calling(Api(answers, principals({"ann": []}), Kept()).routes()) as caller:
            yield caller


@pytest.fixture
def log() -> Log:
    return Log()


@pytest.fixture
async def caller(process: Process, log: Log) -> AsyncIterator[Caller]:
    async with asking(process, log) as caller:
        yield caller


def events(log: Log) -> list[ValuesRead]:
    return [fact for fact in (decode(record).fact for record in log.records) if isinstance(fact, ValuesRead)]


def again(process: Process, fact: ValuesRead) -> list[list[float | None]]:
    """Return the values of a read by a second reading of the definitions, over the records that it names."""
    compiled = process.definition.feature_sets["buying"].compiled
    history, reference, reached_us = History(compiled), Reference(compiled.spec), 0
    for records in [*ANNOUNCED.values(), process.log.of(OrderJournalled.TOPIC)]:
        history.offer(records)
    for applied in [*history.advance(), *history.rest()][: fact.applied]:
        reference.apply(applied)
        reached_us = applied.arrival_us
    asked = [{name: values[number] for name, values in fact.columns.items()} for number in range(len(fact.values))]
    return [reference.row(Applied("orders", parse(fact.at), reached_us, columns)) for columns in asked]


@pytest.mark.parametrize("polls", [1, 2, 3, 5, 8])
async def test_the_log_gives_the_answer_again_wherever_the_fold_stood(polls: int) -> None:
    process, log = Process(ANNOUNCED), Log()
    for place in ANNOUNCED:
        await process.poll(place, polls)
    at = None if process.fold.reached else render(0)
    async with asking(process, log) as caller:
        answer = (await caller.post(READ, at=at, entities=ENTITIES)).json()
    await process.finish()
    (fact,) = events(log)
    assert fact.values == answer["values"] == again(process, fact)


async def test_an_answer_says_of_what_and_from_where_it_is(caller: Caller, process: Process) -> None:
    answer = (await caller.post(READ, entities=ENTITIES[:1])).json()
    reached = max(parse(dict(r.headers)["ce_recordedtime"].decode()) for rs in ANNOUNCED.values() for r in rs if r.key)
    assert answer | {"values": None} == {
        "feature_set": "buying",
        "definition": shop().feature_sets["buying"].id,
        "at": render(reached),
        "position": {
            "applied": sum(bool(record.key) for records in ANNOUNCED.values() for record in records),
            "reached": render(reached),
            "partitions": {f"{topic}/{part}": at.next_offset for (topic, part), at in process.fold.positions.items()},
        },
        "names": ["amount", "orders", "paid", "paid_last"],
        "values": None,
    }


async def test_what_is_not_said_of_an_entity_is_null(caller: Caller) -> None:
    answer = (await caller.post(READ, entities=[{}, {"amount": 1.25}])).json()
    assert answer["values"] == [[None, 0.0, 0.0, None], [1.25, 0.0, 0.0, None]]


async def test_the_answer_is_on_record_with_who_asked(caller: Caller, log: Log) -> None:
    for by in (None, "ann"):
        await caller.post(READ, by=by, at=render(200 * SECOND), entities=ENTITIES)
    first, second = map(decode, log.records)
    assert [first.envelope.actor, second.envelope.actor] == ["anonymous", "ann"]
    assert first.fact.model_dump() == {
        "feature_set": "buying",
        "definition": shop().feature_sets["buying"].id,
        "at": render(200 * SECOND),
        "applied": sum(bool(record.key) for records in ANNOUNCED.values() for record in records),
        "columns": {"amount": [12.5, None, None, None], "shop": ["s00", "s11", "nobody", None]},
        "values": events(log)[0].values,
        "asked_by": "anonymous",
    }


async def test_reads_have_origins_that_rise(caller: Caller, log: Log) -> None:
    for _ in range(3):
        await caller.post(READ, entities=ENTITIES)
    origins = [(decode(record).envelope.origin or "").rpartition("/") for record in log.records]
    assert len({stream for stream, _, _ in origins}) == 1
    assert [number for _, _, number in origins] == ["0", "1", "2"]


async def test_reads_in_between_change_no_row_and_no_journal(process: Process, log: Log) -> None:
    asked = Process(ANNOUNCED)
    async with asking(asked, log) as caller:
        for count in range(6):
            for place in ANNOUNCED:
                await asked.poll(place, count)
                for at_us in (0, 90 * SECOND, 10_000 * DAY):
                    await caller.post(READ, at=render(at_us), entities=[{"shop": "never seen"}, *ENTITIES])
    await asked.finish()
    assert len(events(log)) == 72
    assert asked.published() == process.published()


async def test_a_read_waits_until_the_batch_is_published(log: Log) -> None:
    process, batch = Process(ANNOUNCED), Batch()
    async with asking(process, log, lock=batch) as caller:
        await batch.acquire()
        batch.asked.clear()
        answer = asyncio.create_task(caller.post(READ, entities=ENTITIES))
        await batch.asked.wait()
        await process.finish()
        assert not answer.done()
        batch.release()
        assert (await answer).json()["position"]["applied"] == process.fold.applied > 0


async def test_what_the_log_does_not_take_is_not_given(process: Process) -> None:
    async with asking(process, Away()) as caller:
        answer = await caller.post(READ, entities=ENTITIES)
    assert (answer.status_code, "values" in answer.json()) == (503, False)


async def test_a_read_behind_one_that_the_broker_does_not_answer_waits_no_longer_than_that_one(
    process: Process,
) -> None:
    broker, spine = Slow(), process.definition.sources["orders"]
    answers = Answers(broker, patience_s=0.05)
    with answers.of(process.fold, spine, Read({}), asyncio.Lock()):
        async with calling(Api(answers, principals({}), Kept()).routes()) as caller:
            first = asyncio.create_task(caller.post(READ, entities=ENTITIES))
            await broker.asked.wait()
            async with asyncio.timeout(15):
                refused = await caller.post(READ, entities=ENTITIES)
            assert not first.done()
            broker.answers.set()
            await first
    assert (refused.status_code, len(broker.records)) == (503, 1)
    assert "did not acknowledge within 0.05 s" in refused.json()["detail"]


async def test_before_the_first_record_a_moment_must_be_said(log: Log) -> None:
    async with asking(Process(ANNOUNCED), log) as caller:
        refused = await caller.post(READ, entities=[{}])
        given = await caller.post(READ, at=render(0), entities=[{}])
    assert (refused.status_code, refused.json()["type"]) == (422, "mainstem:nothing_applied")
    assert given.json()["values"] == [[None, 0.0, 0.0, None]]
    assert given.json()["position"]["reached"] is None


async def test_a_moment_of_which_not_everything_is_kept_is_refused_with_the_oldest(
    caller: Caller, process: Process
) -> None:
    assert process.fold.reached is not None
    oldest = process.fold.reached - DAY
    refused = await caller.post(READ, at=render(oldest - 1), entities=ENTITIES)
    assert (refused.status_code, f"lies before {render(oldest)}" in refused.json()["detail"]) == (422, True)
    assert (await caller.post(READ, at=render(oldest), entities=ENTITIES)).status_code == 200


async def test_an_unknown_set_is_refused_with_those_there_are(caller: Caller) -> None:
    refused = await caller.post("/v1/feature-sets/buing/read", entities=ENTITIES)
    assert (refused.status_code, refused.json()["detail"]) == (
        404, "no feature set 'buing' is computed here; there are: buying"
    )  # fmt: skip


@pytest.mark.parametrize(
    ("entity", "detail"),
    [
        ({"shoop": "s00"}, "entities[1]: buying reads no column 'shoop' of orders; it reads: amount, shop"),
        ({"weight": 1}, "entities[1]: buying reads no column 'weight' of orders; it reads: amount, shop"),
        ({"shop": 7}, "entities[1].shop: 7 is not a text"),
        ({"amount": -1}, "entities[1].amount: -1 eur is not within 0 and 1000"),
        ({"amount": "much"}, "entities[1].amount: 'much' is not a number"),
    ],
)
async def test_what_no_record_could_say_is_refused_by_name(
    caller: Caller, log: Log, entity: dict[str, Any], detail: str
) -> None:
    refused = await caller.post(READ, entities=[{}, entity])
    assert (refused.status_code, refused.json()["detail"], log.records) == (422, detail, [])


@pytest.mark.parametrize(
    "body",
    [{}, {"entities": []}, {"entities": [{}] * 1_001}, {"entities": [7]}, {"entities": [{}], "when": "now"},
     {"entities": [{}], "at": "2013-05-01T00:00:00"}, {"entities": [{}], "at": "yesterday"}],
)  # fmt: skip
async def test_a_body_that_is_no_question_is_refused(caller: Caller, body: dict[str, Any]) -> None:
    assert (await caller.post(READ, **body)).status_code == 400


async def test_a_token_that_nobody_has_is_refused(caller: Caller) -> None:
    assert (await caller.post(READ, by="eve", entities=ENTITIES)).status_code == 401


@pytest.mark.parametrize(("behind", "state"), [(0, "live"), (3, "catching up")])
async def test_feature_sets_are_listed_with_how_far_they_are(process: Process, behind: int, state: str) -> None:
    async with asking(process, Log(), behind) as caller:
        (row,) = (await caller.get("/v1/feature-sets")).json()["feature_sets"]
    facts = [decode(record).fact for record in process.log.of("evt.feature.buying")]
    rows = [fact for fact in facts if isinstance(fact, RowComputed)]
    assert (row["feature_set"], row["rows"], row["state"], row["behind"]) == ("buying", len(rows), state, 4 * behind)
    assert (row["late"], row["out_of_range"], row["begins_at"]) == ({"orders": 0, "payments": 0}, {}, {})
    assert (row["held"], row["waits_for"]) == (0, [])


async def test_a_set_says_how_many_records_it_holds_back_and_what_they_wait_for(log: Log) -> None:
    process, silent = Process(ANNOUNCED), ("evt.data.payments", 0)
    for place in ANNOUNCED.keys() - {silent}:
        await process.poll(place, 1_000)
    async with asking(process, log) as caller:
        (row,) = (await caller.get("/v1/feature-sets")).json()["feature_sets"]
    read = [record for place in ANNOUNCED.keys() - {silent} for record in ANNOUNCED[place]]
    assert row["held"] == sum(header(record, "ce_type") == RecordAccepted.TYPE.encode() for record in read) > 0
    assert (row["rows"], row["waits_for"]) == (0, ["evt.data.payments/0"])


async def test_a_set_that_is_shared_out_is_not_answered_and_the_refusal_says_what_to_take(log: Log) -> None:
    answers = Answers(log)
    with answers.none_of("buying", "sha256:b"):
        async with calling(Api(answers, principals({}), Kept()).routes()) as caller:
            refused = await caller.post(READ, entities=ENTITIES)
    assert (refused.status_code, refused.json()["type"]) == (501, "mainstem:shared_out")
    assert "take its rows, or `mainstem feature backfill`" in refused.json()["detail"]


async def test_a_set_that_is_shared_out_is_listed_with_what_is_not_known_of_it(log: Log) -> None:
    answers = Answers(log)
    with answers.none_of("buying", "sha256:b"):
        (row,) = answers.sets()
    assert (row["feature_set"], row["definition"], row["state"]) == ("buying", "sha256:b", "shared out")
    assert [row[name] for name in ("rows", "late", "out_of_range", "begins_at")] == [None] * 4
    assert "how many there were in all is not known" in str(row["reason"])


async def test_a_set_that_stands_still_is_listed_as_it_stood_when_it_stopped(process: Process, log: Log) -> None:
    answers, compiled = Answers(log), process.fold.compiled
    with answers.of(process.fold, process.definition.sources["orders"], Read({}), asyncio.Lock()):
        (before,) = answers.sets()
    with answers.stopped("buying", compiled.id, "records are gone"):
        stopped = {"state": "stopped", "reason": "records are gone", "behind": None, "held": None, "waits_for": None}
        assert answers.sets() == [before | stopped]
    assert before["rows"] == process.fold.rows > 0
    with answers.stopped("buying", "sha256:another", "records are gone"):
        assert answers.sets()[0]["rows"] is None


async def test_a_set_that_is_computed_no_more_is_not_answered(process: Process, log: Log) -> None:
    answers = Answers(log)
    with answers.of(process.fold, process.definition.sources["orders"], Read({}), asyncio.Lock()):
        assert answers.sets()[0]["state"] == "catching up"
    assert answers.sets() == []


async def test_a_set_that_stands_still_is_listed_and_not_answered_with_the_reason(process: Process, log: Log) -> None:
    answers, identity = Answers(log), process.fold.compiled.id
    with answers.stopped("buying", identity, "records are gone; bring them back"):
        async with calling(Api(answers, principals({}), Kept()).routes()) as caller:
            refused = await caller.post(READ, entities=ENTITIES)
            listed = (await caller.get("/v1/feature-sets")).json()["feature_sets"]
    reason = "records are gone; bring them back"
    assert (refused.status_code, refused.json()["type"]) == (503, "mainstem:stopped")
    assert refused.json()["detail"] == f"feature set 'buying' stands still: {reason}"
    assert listed == [
        {"feature_set": "buying", "definition": identity, "rows": None, "behind": None, "held": None, "waits_for": None,
         "state": "stopped",
         "position": None, "late": None, "out_of_range": None, "begins_at": None, "reason": reason}
    ]  # fmt: skip
    assert (answers.sets(), log.records) == ([], [])
