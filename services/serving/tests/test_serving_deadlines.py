"""Calls that would be answered too late are refused at once, and nothing is done for them."""

import asyncio
import gzip
import json
import struct
import zlib
from dataclasses import replace
from itertools import pairwise
from time import monotonic

import grpc
import h2.connection
import h2.events
import httpx
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mainstem.direct import Door, Status, Upstream
from mainstem.inference import open_inference_pb2 as pb
from mainstem.inference.errors import BadRequest, DeadlineExceeded, TooLarge
from mainstem.serving import grpc_fast, wire
from mainstem.serving.batching import Batcher
from mainstem.serving.engine import Model, RanOut
from mainstem.serving.ports import Answer, Question
from mainstem.serving.rpc import SERVICE, Caller

HOST = "127.0.0.1"
URL = "/v2/models/storm/infer"
LATE, EARLY = -1.0, 60.0


def question(number, rows, until, model="storm"):
    return Question(model, None, f"q{number}", "http", np.full((rows, 3), float(number)), until=until)


def body(rows=1, **more):
    tensor = {"name": "features", "shape": [rows, 3], "datatype": "FP64", "data": [1.0, 2.0, 3.0] * rows}
    return {"inputs": [tensor], **more}


def slowed(deployed, seconds):
    """Have every run of the model take that long."""
    model = deployed.board.model(deployed.board.live("storm"))
    run = type(model)._run

    def slow(rows):
        until = monotonic() + seconds
        while monotonic() < until:
            pass
        return run(model, rows)

    model._run = slow


@pytest.fixture
async def deployed(service):
    await service.deploy(bias=0.5)
    service.spool._cap = 1 << 30
    return service


@pytest.fixture
async def client(deployed, door):
    async with httpx.AsyncClient(base_url=f"http://{door}") as client:
        yield client


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(asked=st.lists(st.tuples(st.integers(0, 150), st.sampled_from([LATE, EARLY])), max_size=20))
async def test_who_is_late_is_refused_and_nobody_else(deployed, make, asked):
    model, sizes = deployed.board.model(deployed.board.live("storm")), []
    run = type(model)._run
    model._run = lambda rows: sizes.append(len(rows)) or run(model, rows)
    batcher, now, before = Batcher(deployed.answers), monotonic(), deployed.spool.next_number
    found = [[] for _ in asked]
    for number, (rows, wait_s) in enumerate(asked):
        batcher.put(question(number, rows, now + wait_s), found[number].append)
    batcher.flush()
    for number, ((said,), (rows, wait_s)) in enumerate(zip(found, asked, strict=True)):
        assert isinstance(said, Answer if wait_s == EARLY else DeadlineExceeded)
        if wait_s == EARLY:
            assert (said.id, len(said.probabilities)) == (f"q{number}", rows)
            assert said.probabilities[:, 1] == pytest.approx(make.expected([[number] * 3] * rows, bias=0.5), abs=1e-15)
    taken = sum(rows for rows, wait_s in asked if wait_s == EARLY)
    assert deployed.spool.next_number - before == sum(sizes) == taken
    assert max(sizes, default=0) <= 64


@pytest.fixture
def clock(monkeypatch):
    """Return a clock that only what is slowed moves."""
    now = [0.0]
    for place in ("batching", "answers", "engine"):
        monkeypatch.setattr(f"mainstem.serving.{place}.monotonic", lambda: now[0])
    return now


def slow_down(clock, model, row_s):
    run = type(model)._run

    def slow(rows):
        clock[0] += row_s * len(rows)
        return run(model, rows)

    model._run = slow


def ask(batcher, clock, *asked):
    """Ask for (model, rows, wait_s) in one turn; return what came of each."""
    found = [[] for _ in asked]
    for place, (model, rows, wait_s) in zip(found, asked, strict=True):
        batcher.put(question(1, rows, clock[0] + wait_s, model), place.append)
    batcher.flush()
    return [type(given) for (given,) in found]


async def test_what_would_end_too_late_is_not_begun_and_is_tried_again_later(deployed, clock):
    slow_down(clock, deployed.board.model(deployed.board.live("storm")), 0.01)
    batcher = Batcher(deployed.answers)
    assert all(ask(batcher, clock, ("storm", 64, 10.0)) == [Answer] for _ in range(50))
    assert ask(batcher, clock, ("storm", 64, 0.5)) == [DeadlineExceeded]
    assert ask(batcher, clock, ("storm", 64, 0.5)) == [Answer]  # it is thought to be faster by now
    assert all(ask(batcher, clock, ("storm", 64, 10.0)) == [Answer] for _ in range(50))
    assert ask(batcher, clock, ("storm", 1, 0.5)) == [Answer]


async def test_a_call_whose_time_is_over_in_the_middle_is_refused_then_and_the_next_before_it_begins(deployed, clock):
    slow_down(clock, deployed.board.model(deployed.board.live("storm")), 0.01)
    batcher, began = Batcher(deployed.answers), clock[0]
    assert ask(batcher, clock, ("storm", 1_024, 0.5)) == [RanOut]
    assert clock[0] - began < 0.5 + 64 * 0.01
    assert deployed.spooled() == []
    assert ask(batcher, clock, ("storm", 1_024, 0.5)) == [DeadlineExceeded]


async def test_a_call_whose_time_is_over_before_its_first_rows_is_refused_and_says_nothing_of_them(
    deployed, clock, monkeypatch
):
    monkeypatch.setattr("mainstem.serving.answers.monotonic", lambda: clock.__setitem__(0, 1.0) or clock[0])
    assert ask(Batcher(deployed.answers), clock, ("storm", 1_024, 0.5)) == [RanOut]
    assert deployed.answers.meters.most_row_s == 0.0


async def test_what_single_rows_take_says_nothing_of_many_when_it_is_the_run_that_takes_it(deployed, clock):
    model = deployed.board.model(deployed.board.live("storm"))
    run = type(model)._run

    def of_a_fixed_cost(rows):
        clock[0] += 0.2e-3
        return run(model, rows)

    model._run = of_a_fixed_cost
    batcher = Batcher(deployed.answers)
    assert all(ask(batcher, clock, ("storm", 1, 1.0)) == [Answer] for _ in range(100))
    assert ask(batcher, clock, ("storm", 4_096, 0.05)) == [Answer]


async def test_more_rows_than_a_call_may_have_are_too_many_and_not_too_late(deployed, clock):
    slow_down(clock, deployed.board.model(deployed.board.live("storm")), 0.01)
    batcher = Batcher(deployed.answers)
    ask(batcher, clock, ("storm", 64, 10.0))
    assert ask(batcher, clock, ("storm", 20_000, 0.5)) == [TooLarge]


@pytest.fixture
async def beside_a_slow_one(deployed, make, clock):
    """Return a batcher over storm, a row of which takes 20 ms, and calm, which takes no time."""
    (storm,), calm = deployed.board.all(), Model(make.onnx_model(), 3)
    deployed.board.load("calm", calm)
    deployed.board.swap([storm, replace(storm, deployment="d calm", model="calm", onnx="calm")])
    slow_down(clock, deployed.board.model(storm), 0.02)
    batcher = Batcher(deployed.answers)
    for _ in range(50):
        ask(batcher, clock, ("storm", 1, 10.0), ("calm", 1, 10.0))
    return batcher


async def test_a_slow_model_makes_no_call_on_another_late_that_does_not_wait_for_it(beside_a_slow_one, clock):
    assert ask(beside_a_slow_one, clock, ("calm", 256, 1.0)) == [Answer]
    assert ask(beside_a_slow_one, clock, ("storm", 256, 1.0)) == [DeadlineExceeded]


async def test_who_waits_for_calls_on_a_slow_model_is_late_and_what_is_refused_makes_nobody_late(
    beside_a_slow_one, clock
):
    storm, calm = ("storm", 20, 10.0), ("calm", 1, 0.2)
    assert ask(beside_a_slow_one, clock, storm, calm) == [Answer, DeadlineExceeded]
    assert ask(beside_a_slow_one, clock, calm, storm) == [DeadlineExceeded, Answer]
    assert ask(beside_a_slow_one, clock, ("storm", 60, 1.0), calm) == [DeadlineExceeded, Answer]


async def test_a_caller_says_how_long_it_waits(client):
    assert (await client.post(URL, json=body(parameters={"timeout": 10_000_000}))).status_code == 200
    assert (await client.post(URL, json=body(parameters={"timeout": 0}))).status_code == 200
    late = await client.post(URL, json=body(id="me", parameters={"timeout": 1}))
    assert late.headers["retry-after"] == "1"
    assert (late.status_code, late.json()) == (
        503,
        {"error": "request me would be answered too late; wait longer, or ask for less"},
    )
    for odd in (-1, 0.5, "soon", True):
        assert (await client.post(URL, json=body(parameters={"timeout": odd}))).status_code == 400


def test_nobody_waits_longer_than_the_setting_says():
    assert wire.timeout_of({}, 2.0) == 2.0
    assert wire.timeout_of({"timeout": 5_000_000}, 2.0) == 2.0
    assert wire.timeout_of({"timeout": 500_000}, 2.0) == 0.5
    assert wire.timeout_of({"timeout": 10**400}, 2.0) == 2.0
    with pytest.raises(BadRequest, match="microseconds"):
        wire.timeout_of({"timeout": -1}, 2.0)


async def test_a_turn_of_the_loop_takes_no_more_than_it_has_time_for(deployed):
    """The model takes its time; what came with the call that it works at is refused, each in its place."""
    api = deployed.http_api(deadline_s=0.3)
    content = json.dumps(body(64)).encode()
    request = b"POST %b HTTP/1.1\r\nhost: h\r\ncontent-length: %d\r\n\r\n%b" % (URL.encode(), len(content), content)
    async with Door(api.route, Upstream(HOST, 9)).listening(HOST, 0) as port:
        reader, writer = await asyncio.open_connection(HOST, port)
        writer.write(request)
        await reader.readuntil(b"]}]}")
        slowed(deployed, 0.2)
        writer.write(request * 3)
        writer.write_eof()
        answers = (await reader.read()).split(b"HTTP/1.1 ")[1:]
        writer.close()
    assert [answer[:3] for answer in answers] == [b"200", b"503", b"503"]
    assert b"more was asked at once" in answers[2]


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    asked=st.lists(st.sampled_from(["good", "bad", "late", "ready"]), min_size=1, max_size=30),
    cuts=st.lists(st.integers(0, 6_000), max_size=6),
)
async def test_answers_of_a_connection_leave_in_the_order_of_its_requests(deployed, asked, cuts):
    parts = []
    for number, kind in enumerate(asked):
        more = {"timeout": 1} if kind == "late" else {}
        said = {} if kind == "bad" else body(number % 3 + 1, id=f"q{number}", parameters=more)
        content = b"" if kind == "ready" else json.dumps(said).encode()
        line = b"GET /v2/models/storm/ready" if kind == "ready" else b"POST " + URL.encode()
        parts.append(b"%b HTTP/1.1\r\nhost: h\r\ncontent-length: %d\r\n\r\n%b" % (line, len(content), content))
    sent = b"".join(parts)
    api = deployed.http_api()
    server = await asyncio.get_running_loop().create_server(Door(api.route, Upstream(HOST, 9)), HOST, 0)
    async with server, asyncio.timeout(10):
        reader, writer = await asyncio.open_connection(HOST, server.sockets[0].getsockname()[1])
        for begin, end in pairwise(sorted({0, len(sent), *(cut for cut in cuts if cut < len(sent))})):
            writer.write(sent[begin:end])
            await asyncio.sleep(0)
        writer.write_eof()
        answers = (await reader.read()).split(b"HTTP/1.1 ")[1:]
        writer.close()
    assert len(answers) == len(asked)
    for number, (kind, answer) in enumerate(zip(asked, answers, strict=True)):
        status, said = int(answer[:3]), json.loads(answer.partition(b"\r\n\r\n")[2])
        assert status == {"good": 200, "bad": 400, "late": 503, "ready": 200}[kind]
        if kind == "good":
            assert (said["id"], said["outputs"][0]["shape"]) == (f"q{number}", [number % 3 + 1, 2])
        if kind == "late":
            assert f"request q{number} " in said["error"]


async def test_a_body_that_unpacks_to_much_more_than_was_sent_is_refused_before_it_is_unpacked(client):
    packed = {"content-encoding": "deflate"}
    bomb = zlib.compress(b" " * (15 << 20) + json.dumps(body()).encode(), 9)
    answer = await client.post(URL, content=bomb, headers=packed)
    assert (answer.status_code, "524288 bytes when unpacked" in answer.text) == (413, True)
    honest = zlib.compress(json.dumps(body(4_096)).encode(), 9)
    assert (await client.post(URL, content=honest, headers=packed)).status_code == 200


def many(values):
    """Return what reads as JSON for a long time: values of one input, nested, or of inputs without end."""
    flat = b'{"inputs":[{"name":"features","datatype":"FP64","shape":[%d,3],"data":[%b0]}]}'
    rows = b'{"inputs":[{"name":"features","datatype":"FP64","shape":[%d,3],"data":[%b[0,0,0]]}]}'
    columns = b'{"inputs":[%b{"name":"a","datatype":"FP64","shape":[1],"data":[1]}]}'
    return {
        "flat": flat % (values // 3, b"0," * (values - 1)),
        "nested": rows % (values // 3, b"[0,0,0]," * (values // 3 - 1)),
        "inputs": columns % (b'{"name":"a","datatype":"FP64","shape":[1],"data":[1]},' * (values // 4)),
        "packed": zlib.compress(flat % (values // 3, b"0," * (values - 1)), 9),
    }


@pytest.mark.parametrize("kind", sorted(many(3)))
async def test_what_holds_more_values_than_a_call_may_is_refused_before_it_is_read(client, kind, monkeypatch):
    def read(*_):
        raise AssertionError("it was read")

    monkeypatch.setattr("mainstem.serving.wire.rows", read)
    monkeypatch.setattr("mainstem.inference.rest._decode", read)
    monkeypatch.setattr("mainstem.inference.rest._decode_plain", read)
    headers = {"content-encoding": "deflate"} if kind == "packed" else {}
    answer = await client.post(URL, content=many(200_000)[kind], headers=headers)
    assert (answer.status_code, "more values than 4096 rows of model 'storm' have" in answer.text) == (413, True)


async def test_as_many_rows_as_a_call_may_have_are_answered_however_long_their_json_is(client):
    data = [[0.1234567890123456, -1.7976931348623157e-300, -0.1234567890123456]] * 4_096
    asked = {"inputs": [{"name": "features", "datatype": "FP64", "shape": [4_096, 3], "data": data}]}
    for content in (json.dumps(asked), json.dumps(asked, indent=8)):
        answer = await client.post(URL, content=content)
        assert (answer.status_code, answer.json().get("outputs", [{}])[0].get("shape")) == (200, [4_096, 2])


@pytest.mark.parametrize(
    ("sent", "encoding", "status", "said"),
    [
        (gzip.compress, "GZIP", 200, "probabilities"),
        (gzip.compress, "br", 400, "content encoding 'br' is not taken"),
        (lambda asked: gzip.compress(asked) + gzip.compress(b" "), "gzip", 400, "bytes follow what was packed"),
        (lambda asked: gzip.compress(asked)[:-3], "gzip", 400, "cut short"),
        (lambda asked: asked, "gzip", 400, "is not gzip"),
    ],
)
async def test_a_packed_body_is_one_piece_however_its_encoding_is_spelt(client, sent, encoding, status, said):
    packed = sent(json.dumps(body()).encode())
    answer = await client.post(URL, content=packed, headers={"content-encoding": encoding})
    assert (answer.status_code, said in answer.text) == (status, True), answer.text


def message(rows=1, **parameters):
    asked = pb.ModelInferRequest(model_name="storm")
    asked.inputs.add(name="features", datatype="FP64", shape=[rows, 3])
    asked.raw_input_contents.append(np.ones((rows, 3)).tobytes())
    for name, number in parameters.items():
        asked.parameters[name].int64_param = number
    return asked.SerializeToString()


@pytest.fixture
async def infer(grpc_door):
    async with grpc.aio.insecure_channel(grpc_door) as channel:
        yield channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")


@pytest.mark.parametrize(
    ("rows", "waits"), [(64, {"timeout": 0.5}), (256, {}), (256, {"timeout": 60})], ids=["own", "the setting's", "less"]
)
async def test_what_would_be_late_on_grpc_is_refused_before_that(deployed, infer, monkeypatch, rows, waits):
    """Its deadline is its own, or that of the setting (1 s) if that is earlier."""
    monkeypatch.setattr("mainstem.serving.meters._NEW", 1.0)
    slowed(deployed, 0.6)
    await infer(message(64))
    before, began = deployed.spool.next_number, monotonic()
    with pytest.raises(grpc.aio.AioRpcError, match="would be answered too late") as late:
        await infer(message(rows), **waits)
    assert late.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    assert monotonic() - began < 0.5
    assert deployed.spool.next_number == before


async def test_a_caller_on_grpc_says_how_long_it_waits_by_the_parameter_too(deployed, infer):
    await infer(message(timeout=10_000_000))
    with pytest.raises(grpc.aio.AioRpcError, match="would be answered too late") as late:
        await infer(message(timeout=1))
    assert late.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED


async def test_a_turn_of_the_loop_takes_no_more_calls_of_grpc_than_it_has_time_for(deployed):
    """The model takes its time; what came with the call that it works at is refused."""
    client = h2.connection.H2Connection()
    client.initiate_connection()
    fields = [(":method", "POST"), (":scheme", "http"), (":path", f"/{SERVICE}/ModelInfer"), (":authority", "here")]
    for number in (1, 3, 5):
        client.send_headers(number, [*fields, ("te", "trailers"), ("content-type", "application/grpc")])
        content = message(64)
        client.send_data(number, struct.pack(">BI", 0, len(content)) + content, end_stream=True)
    statuses = {}
    async with grpc_fast.door(deployed.rpc(deadline_s=0.3)).listening(HOST, 0) as port:
        slowed(deployed, 0.2)
        reader, writer = await asyncio.open_connection(HOST, port)
        writer.write(client.data_to_send())
        while len(statuses) < 3:
            for event in client.receive_data(await reader.read(65_536)):
                if isinstance(event, h2.events.TrailersReceived | h2.events.ResponseReceived):
                    said = dict(event.headers)
                    if b"grpc-status" in said:
                        statuses[event.stream_id] = int(said[b"grpc-status"])
        writer.close()
    assert statuses == {1: Status.OK, 3: Status.DEADLINE_EXCEEDED, 5: Status.DEADLINE_EXCEEDED}


async def test_a_call_of_grpc_whose_deadline_is_over_leaves_no_record(deployed):
    found, now, before = [], monotonic(), deployed.spool.next_number
    deployed.rpc().infer(message(), Caller(now, until=now), found.append)
    assert [type(one) for one in found] == [DeadlineExceeded]
    assert deployed.spool.next_number == before


async def test_a_timeout_that_is_no_number_is_refused_on_grpc(deployed, infer):
    request = pb.ModelInferRequest.FromString(message())
    request.parameters["timeout"].string_param = "soon"
    with pytest.raises(grpc.aio.AioRpcError) as odd:
        await infer(request.SerializeToString())
    assert odd.value.code() == grpc.StatusCode.INVALID_ARGUMENT
