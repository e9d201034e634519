"""Calls that are answered together: each gets its own answer, and nobody else's trouble."""

import asyncio
import json

import httpx
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mainstem.events.catalogue import decode
from mainstem.inference import rest
from mainstem.inference.errors import BadRequest, NoAnswer, NotReady, TooLarge, Unknown
from mainstem.runtime.direct import Door
from mainstem.runtime.health import Health
from mainstem.runtime.http import application
from mainstem.serving import wire
from mainstem.serving.api import Api
from mainstem.serving.batching import Batcher
from mainstem.serving.blocks import prediction_id
from mainstem.serving.hot_api import HotApi
from mainstem.serving.ports import Answer, Question

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


@pytest.fixture
async def client(service):
    await service.deploy(bias=0.5)
    app = application(Health(), Api(service.answers).routes())
    door = Door(HotApi(service.answers, Batcher(service.answers)).route, app)
    server = await asyncio.get_running_loop().create_server(door, HOST, 0)
    port = server.sockets[0].getsockname()[1]
    async with httpx.AsyncClient(base_url=f"http://{HOST}:{port}") as client:
        yield client
    server.close()
    await door.drain()


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
        ("GET", "/v2/models/storm/infer", 404),
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
