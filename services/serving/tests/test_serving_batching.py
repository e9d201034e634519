"""Calls that are answered together: each gets its own answer, and nobody else's trouble."""

import asyncio
import gc
import json
import weakref
from contextlib import closing
from dataclasses import replace
from time import monotonic

import grpc
import httpx
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec import structs

from mainstem.events.catalogue import decode
from mainstem.events.errors import MainstemError
from mainstem.inference import messages, rest
from mainstem.inference import open_inference_pb2 as pb
from mainstem.inference.errors import BadRequest, DeadlineExceeded, NoAnswer, NotReady, TooLarge, Unknown
from mainstem.serving import wire
from mainstem.serving.batching import Batcher
from mainstem.serving.blocks import prediction_id
from mainstem.serving.engine import CHUNK
from mainstem.serving.ports import Answer, Question
from mainstem.serving.rpc import Caller
from mainstem.testkit.waiting import until

HOST = "127.0.0.1"
CELLS = st.floats(-5, 5) | st.just(float("nan"))
#: What is asked, and the error that it leads to; None when it is answered.
GOOD = st.lists(st.lists(CELLS, min_size=3, max_size=3), max_size=40).map(lambda rows: (rows, "storm", None))
BAD = st.sampled_from(
    [
        ([[1.0, 2.0]], "storm", BadRequest),
        ([[1.0, float("inf"), 2.0]], "storm", BadRequest),
        ([[1e6, -1e6, -1e9], [0.0, 0.0, 0.0]], "storm", NoAnswer),
        ([[1.0, 2.0, 3.0]], "calm", Unknown),
        ([[1.0, 2.0, 3.0]] * 5_000, "storm", TooLarge),
    ]
)


def question(number, rows, model):
    values = np.array(rows, np.float64).reshape(len(rows), len(rows[0]) if rows else 3)
    return Question(model, None, f"q{number}", "http", values, f"N{number}")


def put(batcher, questions):
    """Put questions; return where their answers will stand."""
    found = [[] for _ in questions]
    for one, place in zip(questions, found, strict=True):
        batcher.put(one, place.append)
    return found


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(asked=st.lists(GOOD | BAD, max_size=12))
async def test_each_caller_gets_what_it_would_get_alone(service, asked):
    if not service.board.of("storm"):
        await service.deploy(bias=0.5)
        service.spool._cap = 1 << 30
    with np.errstate(all="ignore"):
        questions = [question(number, rows, model) for number, (rows, model, _) in enumerate(asked)]
        before = service.spool.next_number
        found = put(batcher := Batcher(service.answers), questions)
        batcher.flush()
        recorded = {event.envelope.id: event for event in map(decode, service.log.append(service.spooled(before)))}
        assert len(recorded) == service.spool.next_number - before
        for one, place, (_, _, error) in zip(questions, found, asked, strict=True):
            (given,) = place
            if error is None:
                assert isinstance(given, Answer)
                alone = service.answers.answer(one)
                assert given.probabilities.tobytes() == alone.probabilities.tobytes()
                assert given.id == one.id
                if len(one.rows):
                    event = recorded[given.prediction]
                    assert (event.envelope.correlation, event.fact.score) == (one.id, given.probabilities[0, 1])
            else:
                assert isinstance(given, error)


async def test_each_answer_is_recorded_once_and_no_refusal(service):
    await service.deploy()
    questions = [question(number, [[number, 0.0, 1.0]], "storm") for number in range(5)]
    questions.insert(2, question(9, [[1.0]], "storm"))
    batcher = Batcher(service.answers)
    put(batcher, questions)
    batcher.flush()
    ids = [dict(message.headers)["ce_correlationid"].decode() for message in service.spooled()]
    assert ids == ["q0", "q1", "q2", "q3", "q4"]


async def test_a_turn_of_the_loop_is_one_run_and_nobody_waits_for_more(service, monkeypatch):
    await service.deploy()
    model, sizes = service.board.model(service.board.live("storm")), []
    run = model._run
    monkeypatch.setattr(model, "_run", lambda rows: sizes.append(len(rows)) or run(rows))
    batcher = Batcher(service.answers)
    found = put(batcher, [question(number, [[1.0, 2.0, 3.0]], "storm") for number in range(10)])
    assert found == [[]] * 10
    await asyncio.sleep(0)
    assert all(isinstance(given, Answer) for (given,) in found)
    assert sizes == [10]
    found = put(batcher, [question(number, [[1.0, 2.0, 3.0]] * 20, "storm") for number in range(5)])
    assert [len(place) for place in found] == [1, 1, 1, 1, 0]  # at 64 rows it is time
    await asyncio.sleep(0)
    assert sizes[1:] == [64, 16, 20]


async def test_what_cannot_be_recorded_is_given_to_nobody(service, make):
    await service.deploy()
    service.spool._cap = 0
    batcher = Batcher(service.answers)
    found = put(batcher, [question(0, [[1.0, 2.0, 3.0]], "storm"), question(1, [[1.0]], "storm")])
    batcher.flush()
    assert [type(given) for (given,) in found] == [NotReady, BadRequest]


async def test_a_run_that_fails_fails_only_for_the_call_that_made_it_fail(service, make):
    await service.deploy(bias=0.5, known=4)
    rows = [[[1.0, 2.0, 3.0]], [[0.0, 9.0, 0.0], [1.0, 2.0, 3.0]], [[2.0, 2.0, 2.0]]]
    batcher = Batcher(service.answers)
    found = put(batcher, [question(number, asked, "storm") for number, asked in enumerate(rows)])
    batcher.flush()
    first, failed, last = (given for (given,) in found)
    assert isinstance(failed, NoAnswer)
    assert "model storm version 1 gave no probability for request q1: " in str(failed)
    assert "idx=9" in str(failed)
    for asked, answer in ((rows[0], first), (rows[2], last)):
        assert answer.probabilities[:, 1] == pytest.approx(make.expected(asked, bias=0.5), abs=1e-15)
    ids = [dict(message.headers)["ce_correlationid"].decode() for message in service.spooled()]
    assert ids == ["q0", "q2"]


async def test_a_model_that_gives_fewer_rows_than_it_was_asked_for_answers_nobody_with_those_of_another(service):
    await service.deploy(bias=0.5)
    model = service.board.model(service.board.live("storm"))
    run = model._raw_run
    model._raw_run = lambda *asked: [run(*asked)[0][:1]]
    batcher = Batcher(service.answers)
    found = put(batcher, [question(number, [[1.0, 2.0, 3.0]] * rows, "storm") for number, rows in enumerate((1, 2))])
    batcher.flush()
    (one,), (two,) = found
    assert (type(one), type(two)) == (Answer, NoAnswer)
    assert "gives 1 rows for 2" in str(two)
    assert len(service.spooled()) == 1


async def test_what_failed_after_its_run_or_came_too_late_counts_as_failed(service):
    await service.deploy(bias=0.5)
    batcher = Batcher(service.answers)
    good, bad = question(0, [[1.0, 2.0, 3.0]], "storm"), question(1, [[1e6, -1e6, -1e9]], "storm")
    found = put(batcher, [good, bad, structs.replace(good, until=-1.0)])
    batcher.flush()
    assert [type(one) for (one,) in found] == [Answer, NoAnswer, DeadlineExceeded]
    (usage,) = service.answers.usage()
    assert (usage.answered, usage.refused) == (1, 2)


async def test_a_run_that_fails_for_all_is_recorded_for_none(service):
    await service.deploy(known=4)
    batcher = Batcher(service.answers)
    found = put(batcher, [question(number, [[9.0, 0.0, 0.0]], "storm") for number in range(2)])
    batcher.flush()
    assert [type(given) for (given,) in found] == [NoAnswer, NoAnswer]
    assert service.spooled() == []


@pytest.fixture
async def client(service, door):
    await service.deploy(bias=0.5)
    async with httpx.AsyncClient(base_url=f"http://{door}") as client:
        yield client


def body(rows, **more):
    tensor = {
        "name": "features",
        "shape": [len(rows), 3],
        "datatype": "FP64",
        "data": [cell for row in rows for cell in row],
    }
    return {"inputs": [tensor], **more}


async def test_many_callers_at_once_are_answered_with_their_own_rows(client, make):
    asked = [[[float(number), 1.0, -1.0]] * (number % 4 + 1) for number in range(100)]
    url = "/v2/models/storm/infer"
    answers = await asyncio.gather(
        *(client.post(url, json=body(rows, id=f"q{number}")) for number, rows in enumerate(asked))
    )
    for number, (rows, answer) in enumerate(zip(asked, answers, strict=True)):
        document = answer.json()
        (output,) = document["outputs"]
        assert (document["id"], output["shape"]) == (f"q{number}", [len(rows), 2])
        assert output["data"][1::2] == pytest.approx(make.expected(rows, bias=0.5).tolist(), abs=1e-15)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v2/health/live", 200),
        ("GET", "/v2/models/storm/ready", 200),
        ("GET", "/v2/models/storm/versions/1/ready", 200),
        ("GET", "/v2/models/storm/versions/2/ready", 404),
        ("GET", "/v2/models/st%6Frm/ready", 200),
        ("GET", "/v2/models/calm/ready", 404),
        ("POST", "/v2/models/storm/versions/1/infer", 200),
        ("POST", "/v2/models/storm/versions/9/infer", 404),
        ("POST", "/v2/models/storm/other/1/infer", 404),
        ("GET", "/v2/models/storm/infer", 405),
        ("GET", "/v2/models/storm", 200),
        ("GET", "/v2", 200),
        ("GET", "/metrics", 200),
        ("GET", "/readyz", 200),
    ],
)
async def test_every_path_is_answered_whoever_serves_it(client, method, path, status):
    content = body([[1.0, 2.0, 3.0]]) if method == "POST" else None
    answer = await client.request(method, path, json=content)
    assert answer.status_code == status
    assert answer.status_code < 400 or answer.json()["error"]


async def test_errors_have_the_form_of_the_protocol(client):
    answer = await client.post("/v2/models/storm/infer", content=b"{")
    assert (answer.status_code, answer.headers["content-type"]) == (400, "application/json")
    assert "is no inference request" in answer.json()["error"]


@given(
    name=st.text(max_size=40),
    rows=st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), max_size=4),
    position=st.text(max_size=9),
    number=st.integers(0, 2**32),
)
def test_most_answers_are_written_at_once_and_just_like_all_others(name, rows, position, number):
    recorded, prediction = "2013-05-01T00:00:00Z", prediction_id("ab" * 16, number)
    answer = Answer("storm", 3, name, np.array(rows).reshape(-1, 2), position, recorded, prediction)
    content, _ = rest.write(wire.given(answer, wire.ALL))
    assert json.loads(wire.plain(answer, prediction)) == json.loads(content)


@settings(max_examples=200)
@given(st.text(max_size=300), st.integers(0, 130), st.text(max_size=300), st.none() | st.text(max_size=300))
def test_raw_answers_are_written_by_hand_and_just_like_all_others(name, rows, position, prediction):
    given_rows = np.random.default_rng(1).random((rows, 2))
    answer = Answer("storm", 1, name, given_rows, position, "2013-05-01T00:00:00Z", prediction)
    expected = messages.write(wire.given(answer, wire.ALL_RAW))
    assert pb.ModelInferResponse.FromString(wire.raw(answer)) == expected


async def test_whatever_goes_wrong_every_caller_hears_of_it_and_the_next_are_answered(service, monkeypatch):
    await service.deploy(bias=0.5)
    batcher, asked = Batcher(service.answers), [question(number, [[1.0, 2.0, 3.0]], "storm") for number in range(3)]
    with monkeypatch.context() as broken, pytest.raises(ZeroDivisionError):
        broken.setattr(service.board, "form", lambda _: 1 / 0)
        found = put(batcher, asked)
        batcher.flush()
    await until(lambda: all(found))
    assert [type(one) for (one,) in found] == [NoAnswer] * 3
    found = put(batcher, asked)
    batcher.flush()
    assert [type(one) for (one,) in found] == [Answer] * 3


async def test_whatever_goes_wrong_with_one_model_calls_on_others_are_answered_and_recorded(service, monkeypatch):
    await service.deploy(bias=0.5)
    (storm,), models = service.board.all(), ["storm", "calm", "gale"]
    service.board.swap(replace(storm, deployment=model, model=model) for model in models)
    batcher, form = Batcher(service.answers), service.board.form
    monkeypatch.setattr(service.board, "form", lambda live: 1 / 0 if live.model == "calm" else form(live))
    found = put(batcher, [question(number, [[1.0, 2.0, 3.0]], model) for number, model in enumerate(models)])
    with pytest.raises(ZeroDivisionError):
        batcher.flush()
    await until(lambda: all(found))
    assert [type(one) for (one,) in found] == [Answer, NoAnswer, Answer]
    ids = [dict(message.headers)["ce_correlationid"].decode() for message in service.spooled()]
    assert ids == ["q0", "q2"]


async def test_a_caller_that_cannot_be_told_keeps_no_other_from_its_answer(service):
    await service.deploy(bias=0.5)
    batcher, told = Batcher(service.answers), []

    def careless(found):
        told.append(found)
        if isinstance(found, Answer):
            raise KeyError("nobody thought of this")

    batcher.put(question(0, [[1.0, 2.0, 3.0]], "storm"), careless)
    (found,) = put(batcher, [question(1, [[1.0, 2.0, 3.0]], "storm")])
    with pytest.raises(KeyError):
        batcher.flush()
    await until(lambda: found)
    assert [type(one) for one in told] == [Answer, NoAnswer]
    assert [type(one) for one in found] == [Answer]


async def test_one_that_comes_too_late_and_cannot_be_told_keeps_no_other_from_its_answer(service):
    await service.deploy(bias=0.5)
    batcher, told = Batcher(service.answers), []

    def careless(found):
        told.append(found)
        if isinstance(found, DeadlineExceeded):
            raise KeyError("nobody thought of this")

    batcher.put(structs.replace(question(0, [[1.0, 2.0, 3.0]], "storm"), until=-1.0), careless)
    (found,) = put(batcher, [question(1, [[1.0, 2.0, 3.0]], "storm")])
    with pytest.raises(KeyError):
        batcher.flush()
    assert [type(one) for one in found] == [Answer]
    await until(lambda: len(told) == 2)
    assert [type(one) for one in told] == [DeadlineExceeded, NoAnswer]


@pytest.mark.parametrize("method", ["ModelInfer", "ModelStatistics"])
async def test_what_goes_wrong_is_an_internal_error_on_grpc(service, grpc_door, monkeypatch, method):
    await service.deploy(bias=0.5)
    monkeypatch.setattr(service.board, "form", lambda _: 1 / 0)
    monkeypatch.setattr(service.answers, "usage", lambda: 1 / 0)
    request = pb.ModelInferRequest(model_name="storm")
    request.inputs.add(name="features", datatype="FP64", shape=[1, 3]).contents.fp64_contents.extend([1.0, 2.0, 3.0])
    content = request.SerializeToString() if method == "ModelInfer" else b""
    async with grpc.aio.insecure_channel(grpc_door) as channel, asyncio.timeout(10):
        with pytest.raises(grpc.aio.AioRpcError, match="the server's") as raised:
            await channel.unary_unary(f"/inference.GRPCInferenceService/{method}")(content)
    assert raised.value.code() is grpc.StatusCode.INTERNAL


@pytest.mark.parametrize("known", [False, True])
async def test_a_batch_that_fails_is_told_to_the_connection_that_made_all_of_it(service, door, monkeypatch, known):
    content = json.dumps(body([[1.0, 2.0, 3.0]])).encode()
    asked = b"POST /v2/models/storm/infer HTTP/1.1\r\nhost: h\r\ncontent-length: %d\r\n\r\n%b" % (len(content), content)
    async with asyncio.timeout(10):
        reader, writer = await asyncio.open_connection(*door.split(":"))
        with closing(writer):
            if known:
                writer.write(asked)
                await reader.readuntil(b'"error"')  # nothing is deployed yet
            await service.deploy(bias=0.5)
            with monkeypatch.context() as broken:
                broken.setattr(service.board, "form", lambda _: 1 / 0)
                writer.write(asked * CHUNK)
                for _ in range(CHUNK):
                    await reader.readuntil(b"HTTP/1.1 500 ")
            writer.write(asked)
            await reader.readuntil(b"HTTP/1.1 200 ")


async def test_batches_that_fail_are_told_to_the_channel_that_made_all_of_them(service, fast_door, monkeypatch):
    await service.deploy(bias=0.5)
    request = pb.ModelInferRequest(model_name="storm", raw_input_contents=[np.ones(3).tobytes()])
    request.inputs.add(name="features", datatype="FP64", shape=[1, 3])
    content = request.SerializeToString()
    async with grpc.aio.insecure_channel(fast_door) as channel, asyncio.timeout(10):
        infer = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
        with monkeypatch.context() as broken:
            broken.setattr(service.board, "form", lambda _: 1 / 0)
            found = await asyncio.gather(*(infer(content) for _ in range(2 * CHUNK)), return_exceptions=True)
        assert {fault.code() for fault in found} == {grpc.StatusCode.INTERNAL}
        assert pb.ModelInferResponse.FromString(await infer(content)).model_name == "storm"


async def test_rows_of_nothing_keep_nobody_from_an_answer(service):
    """They cost no bytes to send, so there may be a billion of them."""
    await service.deploy(bias=0.5)
    rpc, found = service.rpc(deadline_s=10.0), []
    for shape in ([1, 3], [1, 3], [1 << 40, 0]):
        request = pb.ModelInferRequest(model_name="storm", raw_input_contents=[np.ones(shape[1]).tobytes()])
        request.inputs.add(name="features", datatype="FP64", shape=shape)
        rpc.infer(request.SerializeToString(), Caller(monotonic()), found.append)
        if not found:
            rpc._batcher.flush()  # now it knows what a row takes
    rpc._batcher.flush()
    assert {type(one) for one in found} == {bytes, BadRequest}
    assert len(found) == 3


async def test_what_goes_wrong_is_an_internal_error_over_http(service, door, monkeypatch):
    await service.deploy(bias=0.5)
    monkeypatch.setattr(service.board, "form", lambda _: 1 / 0)
    tensor = {"name": "features", "datatype": "FP64", "shape": [1, 3], "data": [1.0, 2.0, 3.0]}
    async with httpx.AsyncClient(base_url=f"http://{door}") as client:
        answer = await client.post("/v2/models/storm/infer", json={"inputs": [tensor]})
    assert (answer.status_code, "the server's" in answer.json()["error"]) == (500, True)


class Rows(np.ndarray):
    """Rows of which it can be known whether somebody still holds them."""


@pytest.mark.parametrize(("rows", "width", "value"), [(5_000, 3, 1.0), (10, 4, 1.0), (10, 3, np.inf), (10, 3, 1e9)])
async def test_the_rows_of_a_refused_call_are_gone_with_its_answer(service, rows, width, value):
    await service.deploy(1)
    gc.collect()
    gc.disable()  # whoever refuses must not leave them to the collector, which comes seldom
    try:
        sent = np.full((rows, width), value).view(Rows)
        asked, held, found = Question("storm", None, "q", "http", sent), weakref.ref(sent), []
        Batcher(service.answers).put(asked, lambda answer: found.append(type(answer)))
        del sent, asked
        await until(lambda: found)
        await asyncio.sleep(0)
        assert issubclass(found[0], MainstemError) or value == 1e9
        assert held() is None
    finally:
        gc.enable()
