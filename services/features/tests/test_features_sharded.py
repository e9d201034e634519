"""A set that is shared out publishes what one worker publishes, whoever works on what and whoever is killed."""

from dataclasses import replace
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from services.features.tests.features_history import (
    ANNOUNCED,
    PLACES,
    History,
    Process,
    accepted,
    marker,
    renamed,
    with_junk,
)
from services.features.tests.sharded_cluster import Cluster, Topics

from mainstem.events.envelope import Message
from mainstem.events.errors import Rejected
from mainstem.events.instants import render
from mainstem.features.sharded.plan import Plan
from mainstem.features.sharded.store import Place, TakenOver
from mainstem.features.sharded.work import Worker
from mainstem.fold.gap import Gap
from mainstem.telemetry import metrics
from mainstem.testkit.clock import DAY
from mainstem.testkit.projects import shop
from mainstem.testkit.records import Taken

SHOP = shop()
BUYING = SHOP.feature_sets["buying"].compiled
Step = (
    tuple[Literal["poll"], int, int, int]
    | tuple[Literal["checkpoint", "share out"], int]
    | tuple[Literal["crash"], int, int]
)
STEPS: st.SearchStrategy[list[Step]] = st.lists(
    st.tuples(st.just("poll"), st.integers(0, 4), st.integers(0, 3), st.integers(1, 6))
    | st.tuples(st.sampled_from(("checkpoint", "share out")), st.integers(0, 1))
    | st.tuples(st.just("crash"), st.integers(0, 1), st.integers(0, 1)),
    max_size=40,
)


async def one_worker() -> Process:
    process = Process(ANNOUNCED)
    await process.finish()
    return process


@pytest.fixture(scope="module")
async def alone() -> Process:
    """Return one worker at its end, to be looked at only."""
    return await one_worker()


def cluster(shards: int, workers: int, history: History = ANNOUNCED) -> Cluster:
    topics = Topics()
    for records in history.values():
        topics.append(records)
    return Cluster(Plan(BUYING, SHOP.sources, shards), workers, topics)


@pytest.mark.parametrize(("shards", "workers"), [(1, 1), (2, 1), (2, 2), (4, 1), (4, 4), (8, 3)])
async def test_any_number_of_shards_and_workers_publishes_the_same(alone: Process, shards: int, workers: int) -> None:
    shared = cluster(shards, workers)
    await shared.share_out(0)
    await shared.finish()
    assert shared.published() == alone.published()


@given(STEPS)
async def test_any_polls_crashes_and_moves_publish_the_same(alone: Process, steps: list[Step]) -> None:
    shared = cluster(4, 2)
    await shared.share_out(0)
    for step in steps:
        match step:
            case "poll", number, part, count:
                stage = shared.stages[number]
                await shared.poll(stage, part % len(shared.partitions(stage)), count)
            case "checkpoint", worker:
                await shared.checkpoint(worker)
            case "share out", shift:
                await shared.share_out(shift)
            case "crash", worker, shift:
                await shared.crash(worker, shift)
    await shared.finish()
    assert shared.published() == alone.published()


async def test_rows_are_tallied_and_the_journal_kept_once(alone: Process) -> None:
    shared = cluster(4, 2)
    await shared.share_out(0)
    await shared.finish()
    await shared.crash(1, 1)
    await shared.finish()
    kept = alone.store.states[BUYING.id]
    tallied = [item for outcome in shared.store.outcomes for item in outcome.rows.items()]
    rows = {part: sum(tally.rows for (_, of), tally in tallied if of == part) for part in (0, 1)}
    assert rows == {part: tally.rows for part, tally in kept.tallies.items()}
    journal = [entry for outcome in shared.store.outcomes for entry in outcome.journal]
    assert journal == list(kept.journal)


async def test_a_worker_whose_partition_was_given_away_cannot_store_what_it_knew() -> None:
    shared = cluster(2, 2)
    await shared.share_out(0)
    await shared.poll(shared.stages[0], 0, 3)
    ghost = shared.worker(shared.stages[0], 0)
    await shared.crash(0, 1)
    await shared.finish()
    with pytest.raises(TakenOver):
        await ghost.checkpoint()


async def test_a_state_that_was_replaced_since_it_was_found_is_not_gone_on_with() -> None:
    shared = cluster(2, 1)
    await shared.share_out(0)
    await shared.finish()
    stage = shared.stages[0]
    late = Worker(stage, shared.store, shared.topics)
    offset = (await late.positions())[stage.topic, 0]
    place, state = shared.store.states[stage.name, 0]
    shared.store.states[stage.name, 0] = Place(place.version + 1, offset), state
    with pytest.raises(TakenOver, match=r"buying.*orders/0: somebody else has gone on from version 1"):
        await late.on_records([marker("orders", 0, offset, 0)])


async def test_records_that_are_gone_stop_the_worker_by_name() -> None:
    shared = cluster(2, 1)
    await shared.share_out(0)
    stage = shared.stages[0]
    worker = shared.worker(stage, 0)
    await worker.on_records(shared.topics.read((stage.topic, 0), 0, 2))
    with pytest.raises(Gap, match=r"evt.data.orders/0 goes on at offset 3, 2 is due"):
        await worker.on_records(shared.topics.read((stage.topic, 0), 3, 1))


async def test_records_that_are_gone_with_nothing_behind_them_stop_the_worker_by_name() -> None:
    shared = cluster(2, 1)
    await shared.share_out(0)
    deal, fold = shared.stages[0], shared.stages[2]
    worker = shared.worker(deal, 0)
    await worker.on_emptied({(deal.topic, 1): 9}, 1)  # the log of others may begin anywhere
    await worker.on_records(shared.topics.read((deal.topic, 0), 0, 2))
    await worker.on_emptied({(deal.topic, 0): 2}, 1)
    with pytest.raises(Gap, match=r"evt.data.orders/0 goes on at offset 3, 2 is due: records between are gone"):
        await worker.on_emptied({(deal.topic, 0): 3}, 1)
    with pytest.raises(Gap, match=r"fold/0 goes on at offset 1, 0 is due"):
        await shared.worker(fold, 0).on_emptied({(fold.topic, 0): 1}, 1)


async def test_a_log_made_anew_stops_the_worker_by_name() -> None:
    shared = cluster(2, 1)
    await shared.share_out(0)
    await shared.finish()
    stage = shared.stages[0]
    await shared.crash(0, 0)
    with pytest.raises(Gap, match=r"evt.data.orders/0 goes on at offset 0, \d+ is due"):
        await shared.worker(stage, 0).on_records(shared.topics.read((stage.topic, 0), 0, 1))


async def test_the_log_of_others_may_begin_anywhere_but_not_an_internal_topic() -> None:
    shared = cluster(2, 1)
    await shared.share_out(0)
    deal, fold = shared.stages[0], shared.stages[2]
    await shared.worker(deal, 0).on_records(shared.topics.read((deal.topic, 0), 1))
    await shared.worker(deal, 0).on_records(shared.topics.read((deal.topic, 1), 0))
    with pytest.raises(Gap, match=r"fold/0 goes on at offset 1, 0 is due"):
        await shared.worker(fold, 0).on_records(shared.topics.read((fold.topic, 0), 1))


async def test_what_is_no_frame_is_parked_and_its_neighbours_pass(alone: Process) -> None:
    shared = cluster(4, 2)
    junk = [Message(t.name, None, b"junk", (), part) for t in shared.plan.topics for part in range(t.partitions)]
    await shared.topics.publish(junk)
    await shared.share_out(0)
    await shared.finish()
    reasons = [parked.reason for outcome in shared.store.outcomes for parked in outcome.parked]
    assert reasons == ["this is no frame of the feature service; find out who wrote it"] * len(junk)
    assert shared.published() == alone.published()


async def test_what_is_no_accepted_record_or_too_late_is_parked_and_its_neighbours_pass(alone: Process) -> None:
    shared = cluster(2, 1)
    await shared.share_out(0)
    stage, place = shared.stages[0], ("evt.data.orders", 0)
    good = ANNOUNCED[place][0]
    week = 7 * 86_400_000_000
    late = accepted("orders", 0, 2, week, 1.0)
    happened = tuple(("ce_time", dict(good.headers)["ce_time"]) if h[0] == "ce_time" else h for h in late.headers)
    junk = type(good)(*place, 1, b"{}", None, accepted("orders", 0, 1, week, 1.0).headers)
    worker = shared.worker(stage, 0)
    await worker.on_records([good, junk, type(good)(*place, 2, late.value, late.key, happened)])
    await worker.checkpoint()
    reasons = [parked.reason for outcome in shared.store.outcomes for parked in outcome.parked]
    assert ["this is no accepted record" in reasons[0], "it became known more than" in reasons[1]] == [True, True]


FIRST = ANNOUNCED[PLACES[0]][0]


@pytest.mark.parametrize(
    "junk",
    [
        *(renamed(FIRST, ce_origin=origin) for origin in (None, b"x/abc", b"src.else/9/0", b"src.orders/1/7")),
        renamed(FIRST, ce_origin=None, ce_correlationid=b"\xff"),
        replace(renamed(FIRST, ce_origin=None), value=b'{"record":' + b"[" * 100_000),
    ],
)
async def test_a_record_that_ingestion_never_put_there_is_parked_as_one_worker_parks_it(junk: Taken) -> None:
    history = with_junk(ANNOUNCED, PLACES[0], 0, junk)
    one, shared = Process(history), cluster(2, 2, history)
    await one.finish()
    await shared.share_out(0)
    await shared.finish()
    assert shared.published() == one.published()
    parked = [parked for outcome in shared.store.outcomes for parked in outcome.parked]
    assert parked == list(one.stored.parked)
    assert [each.record.offset for each in parked] == [0]


async def test_late_records_of_a_set_that_is_shared_out_are_counted_and_warned_of(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def counted() -> float:
        labels = {"feature_set": "buying", "stream": "payments"}
        return metrics.REGISTRY.get_sample_value("mainstem_feature_late_total", labels) or 0.0

    before, place = counted(), PLACES[2]
    end = len(ANNOUNCED[place])
    late = renamed(accepted("payments", 0, end, 7 * DAY, 1.0), ce_time=render(0).encode())
    shared = cluster(2, 1, {**ANNOUNCED, place: [*ANNOUNCED[place], late]})
    await shared.share_out(0)
    await shared.finish()
    assert counted() == before + 1
    assert f"buying parked evt.data.payments/0/{end} (payments-0-{end}): it became known more than" in caplog.text


async def test_a_set_that_is_shared_out_and_begins_without_the_first_records_says_so(
    caplog: pytest.LogCaptureFixture,
) -> None:
    moved = [replace(record, offset=record.offset + 2) for record in ANNOUNCED[PLACES[0]]]
    shared = cluster(2, 1)
    await shared.share_out(0)
    for records in (moved[:1], moved[1:]):
        await shared.worker(shared.stages[0], 0).on_records(records)
    begun = [
        message for message in caplog.messages if message.startswith("buying begins at offset 2 of evt.data.orders/0")
    ]
    assert len(begun) == 1


def test_a_set_of_sources_that_announce_nothing_cannot_be_shared_out() -> None:
    sources = {name: contract.model_copy(update={"replay": False}) for name, contract in SHOP.sources.items()}
    with pytest.raises(Rejected, match=r"evt.data.orders, evt.data.payments, which announce no progress"):
        Plan(BUYING, sources, 2).check()
