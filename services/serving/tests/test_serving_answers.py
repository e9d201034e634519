"""Direct answers: never one without a record."""

from time import monotonic

import numpy as np
import pytest

from mainstem.bus.spool import Spool
from mainstem.events.catalogue import decode
from mainstem.events.instants import render
from mainstem.events.serving import Predicted
from mainstem.inference.errors import BadRequest, NoAnswer, NotReady, TooLarge, Unknown
from mainstem.serving.answers import MAX_ROWS
from mainstem.serving.domain import Tallies
from mainstem.serving.ports import Question
from mainstem.serving.wire import used

ROWS = np.array([[1.0, np.nan, 3.0], [0.0, 0.5, -1.0]])


def ask(service, rows=ROWS, **said):
    return service.answers.answer(
        Question(**{"model": "storm", "version": None, "id": "q", "channel": "http"} | said, rows=rows)
    )


def recorded(service):
    """Return the events in the spool, as a reader of the log will see them."""
    return [decode(record) for record in service.log.append(service.spooled())]


async def test_an_answer_holds_what_the_model_says(service, make):
    await service.deploy(bias=0.5)
    answer = ask(service)
    assert (answer.model, answer.version, answer.id) == ("storm", 1, "q")
    assert answer.probabilities[:, 1] == pytest.approx(make.expected(ROWS, bias=0.5), abs=1e-15)


async def test_each_row_of_an_answer_is_recorded_before_it_is_given(service, make):
    await service.deploy()
    await service.take(make.row(7, partition=1))
    answer = ask(service, entity="LGA", channel="grpc")
    assert [event.fact for event in recorded(service)] == [
        Predicted(
            model="storm",
            version=1,
            onnx=service.board.live("storm").onnx,
            feature_definition=service.board.live("storm").feature_definition,
            channel="grpc",
            entity="LGA",
            row=None,
            position=f"{make.topic}/1/7",
            features=features,
            score=score,
        )
        for features, score in zip([[1.0, None, 3.0], [0.0, 0.5, -1.0]], answer.probabilities[:, 1], strict=True)
    ]


async def test_an_answer_is_recorded_at_the_log_time_reached(service, make):
    await service.deploy()
    await service.take(make.row(7), make.marker(8, make.may + 60_000_000))
    answer = ask(service)
    (event, _) = recorded(service)
    assert answer.recorded == render(make.may + 60_000_000)
    assert event.envelope.recorded_us == event.envelope.time_us == make.may + 60_000_000
    assert answer.parameters()["position"] == event.fact.position == f"{make.topic}/0/7"


async def test_an_answer_after_another_row_stands_at_the_new_position(service, make):
    await service.deploy()
    await service.take(make.row(7))
    first = ask(service)
    await service.take(make.row(8))
    assert (first.position, ask(service).position) == (f"{make.topic}/0/7", f"{make.topic}/0/8")


async def test_before_any_row_an_answer_is_recorded_when_its_version_came_into_effect(service, make):
    await service.deploy(at=make.may)
    assert ask(service).recorded == render(make.may)


async def test_the_ids_are_derived_from_the_place_in_the_spool(service):
    await service.deploy()
    answers = [ask(service), ask(service)]
    ids = [f"{service.spool.incarnation[:16]}{number:016x}" for number in range(4)]
    assert [event.envelope.id for event in recorded(service)] == ids
    assert [answer.prediction for answer in answers] == [ids[0], ids[2]]


async def test_two_calls_with_one_id_are_two_answers_of_one_story(service):
    await service.deploy()
    ask(service), ask(service)
    assert [event.envelope.correlation for event in recorded(service)] == ["q"] * 4
    assert len({event.envelope.id for event in recorded(service)}) == 4


async def test_direct_answers_are_tallied_by_their_channel(service):
    await service.deploy()
    ask(service)
    ask(service, channel="grpc")
    tallies = Tallies.of(service.spooled())
    assert {key: tally.n for key, tally in tallies.items()} == {
        ("storm", 1, "http", 0): 2,
        ("storm", 1, "grpc", 0): 2,
    }


async def test_statistics_say_how_long_calls_waited_and_how_long_their_runs_took(service):
    await service.deploy()
    questions = [Question("storm", None, f"q{number}", "http", ROWS) for number in range(3)]
    waited_s, begun = 5.0, monotonic()
    service.answers.answer_into([None] * 3, questions, begun - waited_s)
    took_s = monotonic() - begun
    (told,) = (used(one)["inference_stats"] for one in service.answers.usage())
    assert {told[name]["count"] for name in ("success", "queue", "compute_infer")} == {3}
    assert 3 * waited_s <= told["queue"]["ns"] / 1e9 <= 3 * (waited_s + took_s)
    assert 0 < told["compute_infer"]["ns"] / 1e9 <= 3 * took_s
    assert told["success"]["ns"] == told["queue"]["ns"] + told["compute_infer"]["ns"]


async def test_without_room_in_the_spool_there_is_no_answer(service, tmp_path):
    await service.deploy()
    service.answers._spool = small = Spool(tmp_path / "small", 3000)
    with pytest.raises(NotReady, match="cannot be recorded"):
        for _ in range(10):
            ask(service)
    (told,) = (used(one)["inference_stats"] for one in service.answers.usage())
    service.answers.answer_into([None], [Question("storm", None, "q", "http", ROWS)], monotonic() - 5)
    (after,) = (used(one)["inference_stats"] for one in service.answers.usage())
    assert after == told | {"fail": {"count": told["fail"]["count"] + 1, "ns": 0}}
    small.close()


@pytest.mark.parametrize(
    "rows",
    [np.zeros((2, 4)), np.zeros(3), np.zeros((1, 1, 3)), np.array([[1.0, np.inf, 0.0]])],
    ids=["wide", "flat", "deep", "infinite"],
)
async def test_other_rows_than_the_model_takes_are_refused_and_not_recorded(service, rows):
    await service.deploy()
    with pytest.raises(BadRequest):
        ask(service, rows)
    assert recorded(service) == []


async def test_too_many_rows_are_refused(service):
    await service.deploy()
    with pytest.raises(TooLarge, match="in parts"):
        ask(service, np.zeros((MAX_ROWS + 1, 3)))


async def test_no_rows_are_answered_with_none(service):
    await service.deploy()
    answer = ask(service, np.zeros((0, 3)))
    assert answer.probabilities.shape == (0, 2)
    assert "prediction_id" not in answer.parameters()


async def test_only_the_live_version_answers(service):
    await service.deploy(1)
    await service.deploy(2)
    assert ask(service, version="2").version == 2
    with pytest.raises(Unknown, match="answers in version 2"):
        ask(service, version="1")


async def test_an_unknown_model_is_named(service):
    await service.deploy()
    with pytest.raises(Unknown, match=r"'sun'.*storm"):
        ask(service, model="sun")


async def test_a_version_that_is_not_loaded_yet_does_not_fall_back_to_another(service):
    await service.deploy(1)
    again = service.restarted()
    again.board.swap(await again.store.activations())
    with pytest.raises(NotReady, match="version 1"):
        ask(again)


async def test_a_result_that_is_no_number_is_neither_given_nor_recorded(service):
    await service.deploy()
    with pytest.raises(NoAnswer, match="request q"):
        ask(service, np.array([[0.0, 0.0, 1000.0]]))
    assert recorded(service) == []
