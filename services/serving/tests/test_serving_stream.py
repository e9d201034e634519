"""Feature rows in, predictions out: the right ones, in order, and the same ones again."""

import asyncio
import json
from collections import defaultdict
from dataclasses import replace

import numpy as np
import pytest

from mainstem.events.catalogue import decode
from mainstem.events.data import ProgressReached
from mainstem.events.errors import Unavailable
from mainstem.events.ids import child_id, fingerprint
from mainstem.events.record import header
from mainstem.events.serving import Predicted
from mainstem.serving.engine import CHUNK, Model
from mainstem.testkit.waiting import running, until


def predictions(service):
    """Return the predictions in the log, as any reader sees them."""
    events = [decode(record) for record in service.log.records]
    return [event for event in events if isinstance(event.fact, Predicted)]


def scores(service):
    return [event.fact.score for event in predictions(service)]


async def test_a_row_becomes_a_prediction_with_its_inputs_version_and_place(service, make):
    await service.deploy(bias=0.5)
    given = make.row(4, (1.0, None, 3.0), partition=1)
    await service.take(given)
    (event,) = predictions(service)
    assert event.fact.score == pytest.approx(make.expected([1.0, np.nan, 3.0], bias=0.5), abs=1e-15)
    assert event.fact == Predicted(
        model="storm",
        version=1,
        onnx=service.board.live("storm").onnx,
        feature_definition=decode(given).fact.definition,
        channel="stream",
        entity="LGA",
        row=decode(given).envelope.id,
        position="evt.feature.gusts/1/4",
        features=[1.0, None, 3.0],
        score=event.fact.score,
    )


async def test_a_prediction_takes_its_times_and_story_from_the_row(service, make):
    await service.deploy()
    given = make.row(4, partition=1)
    await service.take(given)
    cause, (event,) = decode(given).envelope, predictions(service)
    assert event.envelope.id == child_id(cause.id, "mainstem.serving.predicted.v1:storm")
    assert event.envelope.causation == cause.id
    assert event.envelope.origin == "evt.feature.gusts/1/4"
    copied = ("time_us", "recorded_us", "correlation", "tenant")
    assert [getattr(event.envelope, name) for name in copied] == [getattr(cause, name) for name in copied]
    (record,) = service.log.records
    assert (record.topic, record.partition, record.key) == (make.predictions, 1, b"LGA")


async def test_hundreds_of_rows_get_the_scores_they_would_get_alone(service, make):
    await service.deploy()
    values = np.random.default_rng(1).normal(size=(5 * CHUNK + 7, 3)).round(3)
    await service.take(*[make.row(offset, row) for offset, row in enumerate(values.tolist())])
    alone = Model(make.onnx_model(), 3)
    assert scores(service) == [float(alone.probabilities(row[None])[0, 1]) for row in values]


async def test_rows_before_any_deployment_are_not_predicted(service, make):
    await service.take(make.row(0))
    await service.deploy(at=make.may)
    await service.take(make.row(1))
    assert [event.fact.position for event in predictions(service)] == [f"{make.topic}/0/1"]


async def test_rows_recorded_before_a_version_is_effective_stay_with_the_one_before(service, make):
    await service.deploy(1)
    await service.deploy(2, at=make.may + 2_000_000)
    await service.take(*map(make.row, range(4)))
    assert [event.fact.version for event in predictions(service)] == [1, 1, 2, 2]


async def test_rows_of_another_feature_definition_are_not_scored(service, make):
    await service.deploy()
    await service.take(make.row(0, definition="sha256:" + "e" * 64), make.row(1))
    assert [event.fact.position for event in predictions(service)] == [f"{make.topic}/0/1"]


async def test_the_same_records_give_the_same_bytes_in_another_process(service, make):
    await service.deploy()
    records = [make.row(offset, (offset, None, 0.1 * offset)) for offset in range(300)]
    await service.take(*records)
    first = [(r.value, r.headers) for r in service.log.records]
    again = service.restarted()
    await again.deployments.restore()
    await again.take(*records)
    assert [(r.value, r.headers) for r in service.log.records[300:]] == first


async def test_records_that_were_read_before_are_not_scored_again(service, make):
    await service.deploy()
    await service.take(make.row(0), make.row(1))
    await service.take(make.row(1), make.row(2))
    assert len(predictions(service)) == 3


async def test_a_second_copy_of_a_row_is_not_scored(service, make):
    await service.deploy()
    copy = make.row(0)
    await service.take(copy, type(copy)(copy.topic, 0, 1, copy.value, copy.key, copy.headers))
    assert len(predictions(service)) == 1


async def test_markers_are_passed_on_before_any_deployment(service, make):
    await service.take(make.marker(0, make.may, partition=1))
    (record,) = service.log.records
    event = decode(record)
    assert (record.topic, record.partition) == (make.predictions, 1)
    assert event.fact == ProgressReached(until="2013-05-01T00:00:00.000000Z")
    assert event.envelope.origin == "evt.feature.gusts/1/0"


async def test_a_marker_that_is_nested_too_deep_is_parked(service, make):
    await service.deploy()
    marker, deep = make.marker(0, make.may), b'{"more":' + b"[" * 5_000 + b"]" * 5_000 + b"}"
    await service.take(type(marker)(marker.topic, 0, 0, deep, marker.key, marker.headers))
    await service.stream.checkpoint(service.store)
    assert service.log.records == []
    assert [parked.record.offset for parked in service.store.parked] == [0]


async def test_rows_and_markers_keep_their_order_within_a_partition(service, make):
    await service.deploy()
    mixed = [make.marker(3, make.may), make.row(2), make.row(4, partition=1), make.row(4), make.row(0)]
    await service.take(*sorted(mixed, key=lambda record: record.offset))
    seen = defaultdict(list)
    for record in service.log.records:
        seen[record.partition].append(header(record, "ce_origin").decode())
    assert seen == {0: [f"{make.topic}/0/{offset}" for offset in (0, 2, 3, 4)], 1: [f"{make.topic}/1/4"]}


@pytest.mark.parametrize(
    "values",
    ["[1,2]", "[1,2,3,4]", '[1,"x",3]', "7", "[1,2,1e999]", "[" * 5000 + "]" * 5000],
    ids=["too few", "too many", "text", "no list", "no float64", "too deep"],
)
async def test_a_row_that_does_not_fit_is_parked_and_its_neighbours_are_scored(service, make, values):
    await service.deploy()
    bad = make.row(1)
    body = json.loads(bad.value)
    broken = bad.value.replace(json.dumps(body["values"], separators=(",", ":")).encode(), values.encode())
    await service.take(make.row(0), type(bad)(make.topic, 0, 1, broken, bad.key, bad.headers), make.row(2))
    await service.stream.checkpoint(service.store)
    assert [event.fact.position[-1] for event in predictions(service)] == ["0", "2"]
    assert [parked.record.offset for parked in service.store.parked] == [1]


@pytest.mark.parametrize("value", [b"\xff", b"{}", b'{"definition":"\xff","entity":"a","values":[1]}'])
async def test_a_record_that_is_no_row_is_parked(service, make, value):
    await service.deploy()
    row = make.row(1)
    await service.take(make.row(0), type(row)(make.topic, 0, 1, value, row.key, row.headers), make.row(2))
    await service.stream.checkpoint(service.store)
    assert len(predictions(service)) == 2
    assert [parked.record.offset for parked in service.store.parked] == [1]


async def test_what_is_parked_is_warned_of_once_stored_with_its_place_and_id_a_line_for_each_reason(
    service, make, caplog
):
    def said():
        return [record.getMessage() for record in caplog.records if record.__dict__.get("action") == "parked"]

    await service.deploy()
    short = [make.row(offset, (1.0,)) for offset in (1, 2, 4)]
    junk = replace(make.row(3), headers=())
    await service.take(make.row(0), *short[:2], junk, short[2])
    assert said() == []
    await service.stream.checkpoint(service.store)
    alone, several = sorted(said(), key=len)
    known_as = header(short[0], "ce_id").decode()
    assert alone.startswith(f"parked {make.topic}/0/3 (without an id): the headers are not those")
    more = "and 2 more, see serving's table `parked`: the values are not 3 numbers"
    assert several.startswith(f"parked {make.topic}/0/1 ({known_as}) {more}")
    assert {record.levelname for record in caplog.records if record.__dict__.get("action") == "parked"} == {"WARNING"}
    await service.take(make.row(5))
    await service.stream.checkpoint(service.store)
    assert len(said()) == 2


async def test_a_checkpoint_holds_positions_tallies_and_how_far_the_log_was_seen(service, make):
    await service.deploy()
    await service.take(*map(make.row, range(3)), make.marker(3, make.may + 9_000_000))
    await service.stream.checkpoint(service.store)
    tally = service.store.tallies["storm", 1, "stream", 0]
    ids = [event.envelope.id.encode() for event in predictions(service)]
    assert (tally.n, tally.fingerprint) == (3, sum(map(fingerprint, ids)) % 2**63)
    assert service.store.positions[make.topic, 0].next_offset == 4
    assert list(service.store.states) == [(make.topic, 0)]


async def test_a_checkpoint_without_news_stores_nothing(service, make):
    await service.deploy()
    await service.take(make.row(0))
    await service.stream.checkpoint(service.store)
    await service.stream.checkpoint(service.store)
    assert service.store.tallies["storm", 1, "stream", 0].n == 1


class Refusing:
    """A bus that takes nothing."""

    async def publish(self, messages):
        raise Unavailable("no broker")


async def test_what_the_bus_did_not_take_is_scored_again_by_the_same_version(service, make):
    await service.deploy(1)
    with pytest.raises(Unavailable):
        await service.stream.on_records([make.row(0), make.row(1)], publisher=Refusing())
    activated = await service.deploy(2)
    await service.take(make.row(0), make.row(1), make.row(2))
    assert activated.from_offsets == {"0": 2, "1": 0}
    assert [event.fact.version for event in predictions(service)] == [1, 1, 2]


async def test_a_version_whose_artifact_is_away_is_waited_for(service, make, tmp_path):
    await service.deploy()
    again = service.restarted()
    again.board.swap(await again.store.activations())
    digest = again.board.live("storm").onnx
    place = tmp_path / "artifacts" / digest[7:9] / digest[7:]
    content = place.read_bytes()
    place.unlink()
    async with running(again.take(make.row(0))) as task:
        await until(lambda: "no artifact" in (again.board.fault() or ""))
        place.write_bytes(content)
        async with asyncio.timeout(5):
            await task
    assert again.board.fault() is None
    assert len(predictions(again)) == 1


async def test_a_newer_version_takes_the_rows_that_wait_for_one_whose_artifact_is_away(service, make, tmp_path):
    await service.deploy(1)
    again = service.restarted()
    again.board.swap(await again.store.activations())
    digest = again.board.live("storm").onnx
    (tmp_path / "artifacts" / digest[7:9] / digest[7:]).unlink()
    async with running(again.take(make.row(0))) as task:
        await until(again.board.fault)
        await again.deploy(2, bias=1.0)
        async with asyncio.timeout(5):
            await task
    assert [event.fact.version for event in predictions(again)] == [2]


async def test_a_row_without_a_probability_is_parked(service, make):
    await service.deploy()
    await service.take(make.row(0), make.row(1, (0.0, 0.0, 1000.0)))
    await service.stream.checkpoint(service.store)
    assert len(predictions(service)) == 1
    assert "gave no probability" in service.store.parked[0].reason


async def test_a_sampled_row_is_followed_into_its_prediction(service, make):
    await service.deploy()
    trace = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    given = make.row(0)
    await service.take(replace(given, headers=(*given.headers, ("traceparent", trace))))
    followed = header(service.log.records[0], "traceparent")
    assert (followed[:35], followed[-3:]) == (trace[:35], b"-01")
    assert followed != trace


async def test_a_row_that_the_model_fails_on_is_parked_with_the_reason_and_its_neighbours_are_scored(service, make):
    await service.deploy(bias=0.5, known=4)
    rows = [(1.0, None, 3.0), (0.0, 9.0, 0.0), (2.0, 2.0, 2.0)]
    await service.take(*map(make.row, range(3), rows))
    await service.stream.checkpoint(service.store)
    assert scores(service) == pytest.approx(
        [make.expected(np.array(row, np.float64), bias=0.5) for row in (rows[0], rows[2])], abs=1e-15
    )
    (parked,) = service.store.parked
    assert parked.record.offset == 1
    assert parked.reason.startswith("model storm version 1 gave no probability: ")
    assert "idx=9" in parked.reason
