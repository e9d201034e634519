"""The Open Inference Protocol, as clients we did not write see it."""

import asyncio
import gzip
import json

import grpc
import httpx
import numpy as np
import pytest
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from mainstem.events.catalogue import decode
from mainstem.inference import fields, health_pb2
from mainstem.inference import open_inference_pb2 as pb
from mainstem.serving.rpc import HEALTH, SERVICE

HOST = "127.0.0.1"
#: The field 15, of bytes.
OF_NO_REQUEST = 0x7A
ROWS = np.array([[1.0, np.nan, 3.0], [0.0, 0.5, -1.0]])


@pytest.fixture
async def live(service):
    """Version 1 answers."""
    await service.deploy(bias=0.5)
    return service


@pytest.fixture
async def client(live, door):
    async with httpx.AsyncClient(base_url=f"http://{door}") as client:
        yield client


@pytest.fixture
async def channel(live, grpc_door):
    async with grpc.aio.insecure_channel(grpc_door) as channel:
        yield channel


@pytest.fixture
async def whole_channel(live, whole_door):
    async with grpc.aio.insecure_channel(whole_door) as channel:
        yield channel


def asked(data, shape=(2, 3), **said):
    return {"inputs": [{"name": "features", "datatype": "FP64", "shape": shape, "data": data}], **said}


async def infer(client, body, path="/v2/models/storm/infer", **said):
    return await client.post(path, content=body if isinstance(body, bytes) else json.dumps(body), **said)


@pytest.mark.parametrize("data", [[[1, None, 3.0], [0, 0.5, -1]], [1, None, 3.0, 0, 0.5, -1]], ids=["nested", "flat"])
async def test_json_is_taken_nested_and_flat_with_null_for_a_missing_value(client, make, data):
    answer = (await infer(client, asked(data, id="mine"))).json()
    (tensor,) = answer.pop("outputs")
    probabilities = np.array(tensor.pop("data")).reshape(2, 2)
    assert probabilities[:, 1] == pytest.approx(make.expected(ROWS, bias=0.5), abs=1e-15)
    assert tensor == {"name": "probabilities", "datatype": "FP64", "shape": [2, 2]}
    assert (answer["model_name"], answer["model_version"], answer["id"]) == ("storm", "1", "mine")


async def test_an_answer_over_http_stands_in_the_spool_with_its_entity(client, live):
    answer = (await infer(client, asked([1, 2, 3], (1, 3), parameters={"entity": "LGA"}))).json()
    (event,) = map(decode, live.log.append(live.spooled()))
    assert (event.fact.channel, event.fact.entity) == ("http", "LGA")
    assert event.fact.score == answer["outputs"][0]["data"][1]
    assert event.envelope.id == answer["parameters"]["prediction_id"]
    assert event.envelope.correlation == answer["id"]


async def test_a_raw_request_is_one_tensor_and_nothing_else(client, make):
    headers = {"inference-header-content-length": "0"}
    answer = await infer(client, ROWS.tobytes(), headers=headers)
    tail = answer.content[int(answer.headers["inference-header-content-length"]) :]
    assert np.frombuffer(tail).reshape(2, 2)[:, 1] == pytest.approx(make.expected(ROWS, bias=0.5), abs=1e-15)


BINARY = {"name": "features", "datatype": "FP64", "shape": [2, 3], "parameters": {"binary_data_size": 48}}
WRONG = {
    "no JSON": (b"{", {}),
    "no object": (b"[]", {}),
    "no inputs": ({}, {}),
    "no data": ({"inputs": [{"name": "features", "datatype": "FP64", "shape": [2, 3]}]}, {}),
    "too few values": (asked([1, 2, 3]), {}),
    "ragged": (asked([[1, 2, 3], [1, 2]]), {}),
    "deep": (asked([[[1, 2, 3]], [[1, 2, 3]]]), {}),
    "text": (asked(["1", "2", "3"], (1, 3)), {}),
    "truth values": (asked([True, False, True], (1, 3)), {}),
    "past float64": (b'{"inputs":[{"name":"features","datatype":"FP64","shape":[1,3],"data":[1e999,0,0]}]}', {}),
    "open shape": (asked([1, 2, 3], (-1, 3)), {}),
    "no shape": (asked([], ()), {}),
    "entity of no text": (asked([1, 2, 3], (1, 3), parameters={"entity": 7}), {}),
    "unknown output": (asked([1, 2, 3], (1, 3), outputs=[{"name": "label"}]), {}),
    "binary that is not there": ({"inputs": [BINARY]}, {}),
    "header past the body": (asked([1, 2, 3], (1, 3)), {"inference-header-content-length": "9999"}),
    "header that is no number": (asked([1, 2, 3], (1, 3)), {"inference-header-content-length": "x"}),
    "a part of a float64": (b"1234567", {"inference-header-content-length": "0"}),
    "gzip that is none": (b"plain", {"content-encoding": "gzip"}),
    "unknown encoding": (b"plain", {"content-encoding": "br"}),
}


@pytest.mark.parametrize("name", WRONG)
async def test_a_wrong_request_is_a_400_with_a_sentence_and_leaves_no_record(client, live, name):
    body, headers = WRONG[name]
    answer = await infer(client, body, headers=headers)
    assert (answer.status_code, list(answer.json())) == (400, ["error"])
    assert live.spool.next_number == 0


async def test_a_body_that_unpacks_to_too_much_is_a_413(client):
    bomb = gzip.compress(b" " * (17 << 20))
    assert (await infer(client, bomb, headers={"content-encoding": "gzip"})).status_code == 413


@pytest.mark.parametrize("path", ["/v2/models/sun", "/v2/models/storm/versions/9", "/v2/models/sun/ready", "/v2/x"])
async def test_what_is_not_here_is_a_404_in_the_protocols_words(client, path):
    answer = await client.get(path)
    assert (answer.status_code, list(answer.json())) == (404, ["error"])


async def test_a_fault_makes_the_server_not_ready(client, live):
    live.board.keep([])
    answer = await client.get("/v2/health/ready")
    assert (answer.status_code, answer.json()) == (503, {"error": "model storm version 1: not loaded yet"})
    assert (await client.get("/v2/health/live")).status_code == 200


@pytest.mark.parametrize("path", ["/livez", "/v2/health/live", "/v2/health/ready"])
@pytest.mark.parametrize("loaded", [True, False])
async def test_probes_by_head_are_answered_by_the_worker_as_those_by_get_without_a_body(client, live, path, loaded):
    if not loaded:
        live.board.keep([])
    get, head = await client.get(path), await client.head(path)
    assert (head.status_code, head.headers, head.content) == (get.status_code, get.headers, b"")
    assert live.http_api().route(b"HEAD", path.encode(), []) is not None


def unary(channel, method, request, response, service=SERVICE):
    serialise = type(request).SerializeToString
    call = channel.unary_unary(f"/{service}/{method}", serialise, response.FromString)
    return call(request)


def typed(rows=ROWS, **said):
    request = pb.ModelInferRequest(model_name="storm", **said)
    tensor = request.inputs.add(name="features", datatype="FP64", shape=rows.shape)
    tensor.contents.fp64_contents.extend(rows.ravel().tolist())
    return request


async def test_a_typed_question_gets_a_typed_answer(channel, make):
    answer = await unary(channel, "ModelInfer", typed(id="mine"), pb.ModelInferResponse)
    found = np.array(answer.outputs[0].contents.fp64_contents).reshape(2, 2)
    assert found[:, 1] == pytest.approx(make.expected(ROWS, bias=0.5), abs=1e-15)
    assert (answer.id, list(answer.raw_output_contents)) == ("mine", [])


async def test_raw_and_typed_in_one_question_are_refused(channel):
    request = typed()
    request.raw_input_contents.append(ROWS.tobytes())
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await unary(channel, "ModelInfer", request, pb.ModelInferResponse)
    assert raised.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_contents_of_another_type_are_refused(channel):
    request = typed()
    request.inputs[0].contents.int_contents.append(1)
    with pytest.raises(grpc.aio.AioRpcError, match="fp64_contents"):
        await unary(channel, "ModelInfer", request, pb.ModelInferResponse)


@pytest.mark.parametrize(
    ("grpc_door", "taken", "too_much"),
    [("grpcio", 15 << 20, 17 << 20), ("fast", 1 << 18, 1 << 20)],
    indirect=["grpc_door"],
)
async def test_a_packed_message_unpacks_to_no_more_than_its_server_takes(channel, taken, too_much):
    def live(size):
        message = fields.field(OF_NO_REQUEST, bytes(size))
        return channel.unary_unary(f"/{SERVICE}/ServerLive")(message, compression=grpc.Compression.Gzip)

    assert await live(taken)
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await live(too_much)
    assert raised.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


@pytest.mark.parametrize("asked_service", ["", SERVICE])
async def test_the_health_service_follows_readiness(channel, live, asked_service):
    request = health_pb2.HealthCheckRequest(service=asked_service)
    answers = [await unary(channel, "Check", request, health_pb2.HealthCheckResponse, HEALTH)]
    live.board.keep([])
    answers.append(await unary(channel, "Check", request, health_pb2.HealthCheckResponse, HEALTH))
    assert answers == [health_pb2.HealthCheckResponse(status=1), health_pb2.HealthCheckResponse(status=2)]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v2/models/a%00b/stats", 400),
        ("GET", "/v2/models/a%00b/ready", 404),
        ("GET", "/v2/models/storm/stats?of=%00", 400),
        ("POST", "/v2/repository/index?of=%00", 400),
        ("POST", "/v2/repository/models/a%00b/load", 400),
        ("GET", "/v2/models/%ff/stats", 404),
        ("PROPFIND", "/v2/models/storm/stats", 405),
        ("PROPFIND", "/v2/nothing", 404),
    ],
)
async def test_whatever_is_wrong_with_an_address_the_body_is_the_protocols_error(client, method, path, status):
    answer = await client.request(method, path)
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/json")
    assert list(answer.json()) == ["error"]


async def test_so_it_is_when_a_page_fails_for_a_reason_that_nobody_expected(client, live, monkeypatch):
    monkeypatch.setattr(live.answers, "usage", lambda: 1 / 0)
    answer = await client.get("/v2/models/stats")
    assert (answer.status_code, answer.headers["content-type"]) == (500, "application/json")
    assert "its log says which" in answer.json()["error"]


async def test_the_health_service_knows_no_other_service(channel):
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await unary(
            channel, "Check", health_pb2.HealthCheckRequest(service="x"), health_pb2.HealthCheckResponse, HEALTH
        )
    assert raised.value.code() is grpc.StatusCode.NOT_FOUND


async def test_who_watches_the_health_is_told_now_and_when_it_changes(whole_channel, live):
    call = whole_channel.unary_stream(
        f"/{HEALTH}/Watch",
        health_pb2.HealthCheckRequest.SerializeToString,
        health_pb2.HealthCheckResponse.FromString,
    )(health_pb2.HealthCheckRequest(service=SERVICE))
    told = [await call.read()]
    live.board.keep([])
    told.append(await call.read())
    assert [each.status for each in told] == [1, 2]
    call.cancel()


@pytest.mark.parametrize(
    ("requests", "said"), [([b"\xff\xff\xff"], "the request is no HealthCheckRequest"), ([], "ended without a request")]
)
async def test_who_asks_for_no_health_is_told_so_and_watches_nothing(whole_channel, requests, said):
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await anext(aiter(whole_channel.stream_stream(f"/{HEALTH}/Watch")(iter(requests))))
    assert (raised.value.code(), said in raised.value.details()) == (grpc.StatusCode.INVALID_ARGUMENT, True)


async def test_a_client_that_knows_nothing_finds_the_services_and_their_messages(whole_door):
    def discover():
        with grpc.insecure_channel(whole_door) as channel:
            found = ProtoReflectionDescriptorDatabase(channel)
            pool = DescriptorPool(found)
            return {name: pool.FindServiceByName(name) for name in found.get_services()}

    services = await asyncio.to_thread(discover)
    assert services[SERVICE].FindMethodByName("ModelInfer").input_type.full_name == "inference.ModelInferRequest"
    assert services[HEALTH].FindMethodByName("Check").output_type.full_name == "grpc.health.v1.HealthCheckResponse"
