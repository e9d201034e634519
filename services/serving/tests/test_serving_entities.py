"""Calls that describe an entity instead of bringing its features."""

import asyncio

import grpc
import httpx
import numpy as np
import orjson
import pytest

from mainstem.events.catalogue import decode
from mainstem.inference import open_inference_pb2 as pb
from mainstem.inference.errors import BadRequest, NotReady, TooLarge
from mainstem.serving.answers import MAX_ROWS
from mainstem.serving.domain import Followed
from mainstem.serving.ports import Question

HOST = "127.0.0.1"
STATIONS = [
    {"name": "station", "datatype": "BYTES", "shape": [2], "data": ["LGA", "EWR"]},
    {"name": "wind", "datatype": "FP64", "shape": [2, 1], "data": [4.0, None]},
]
LOOKED_UP = {"feature_set": "gusts", "features_applied": 41, "age_s.reading": 3.5, "stale": "radar"}


@pytest.fixture
async def live(service):
    """Version 1 answers, and looks features up."""
    await service.deploy(bias=0.5)
    service.entities.on = True
    return service


@pytest.fixture
async def client(live, door):
    async with httpx.AsyncClient(base_url=f"http://{door}") as client:
        yield client


def asked(rows, columns=None, **said):
    about = {"model": "storm", "version": None, "id": "q", "channel": "http", "rows": rows}
    return Question(**about | said, columns=columns)


def described(**columns):
    return asked(np.empty((len(next(iter(columns.values()))), 0)), columns)


def recorded(service):
    return [decode(record).fact for record in service.log.append(service.spooled())]


async def infer(client, inputs, **said):
    return await client.post("/v2/models/storm/infer", json={"inputs": inputs} | said)


async def test_an_entity_is_answered_by_the_features_that_are_known_of_it(client, live, make):
    answer = await infer(client, STATIONS, id="now")
    scores = np.array(answer.json()["outputs"][0]["data"]).reshape(2, 2)[:, 1]
    wanted = make.expected([[4.0, np.nan, 2.0], [np.nan, np.nan, 0.0]], bias=0.5)
    assert scores == pytest.approx(wanted, abs=1e-15)
    assert answer.json()["parameters"].items() >= LOOKED_UP.items()


async def test_what_was_said_of_each_entity_and_as_of_when_is_recorded(client, live):
    await infer(client, STATIONS, id="now", parameters={"entity": "two stations"})
    first, second = recorded(live)
    assert (first.entity, first.features, second.features) == ("two stations", [4.0, None, 2.0], [None, None, 0.0])
    assert first.lookup.model_dump() == {
        "at": "2013-05-01T00:00:00.000000Z",
        "applied": 41,
        "columns": {"station": "LGA", "wind": 4.0},
    }
    assert second.lookup.columns == {"station": "EWR", "wind": None}


@pytest.mark.parametrize("shape", [[2], [2, 1]])
async def test_null_in_a_column_of_texts_is_unknown_and_recorded_as_that(client, live, shape):
    unnamed = {"name": "station", "datatype": "BYTES", "shape": shape, "data": ["LGA", None]}
    assert (await infer(client, [unnamed, STATIONS[1]])).status_code == 200
    assert [fact.lookup.columns["station"] for fact in recorded(live)] == ["LGA", None]


async def test_both_forms_of_an_answer_say_the_same(client):
    plain = (await infer(client, STATIONS, id="now")).json()
    general = (await infer(client, STATIONS, id="now", outputs=[{"name": "probabilities"}])).json()
    del plain["parameters"]["prediction_id"], general["parameters"]["prediction_id"]
    assert plain == general


async def test_calls_of_a_turn_that_describe_and_that_bring_are_one_run_each_with_its_own_rows(live, make):
    rows = np.array([[1.0, np.nan, 3.0]])
    questions = [described(wind=[4.0]), asked(rows), described(wind=[None, 2.0]), asked(rows * 2)]
    answers = live.answers.answer_all(questions)
    wanted = [[[4, 0, 2]], rows, [[0, 0, 0], [2, 0, 1]], rows * 2]
    for answer, values in zip(answers, wanted, strict=True):
        assert answer.probabilities[:, 1] == pytest.approx(make.expected(values, bias=0.5), abs=1e-15)
    assert [answer.as_of is not None for answer in answers] == [True, False, True, False]
    assert [fact.lookup and fact.lookup.columns for fact in recorded(live)] == [
        {"wind": 4.0},
        None,
        {"wind": None},
        {"wind": 2.0},
        None,
    ]
    assert live.answers.usage()[0].runs == 1
    assert live.entities.reads == 1


async def test_one_that_describes_no_entity_fails_alone(live):
    too_many = described(wind=[1.0] * (MAX_ROWS + 1))
    bad, good, large = live.answers.answer_all([described(colour=["red"]), described(wind=[4.0]), too_many])
    assert isinstance(bad, BadRequest)
    assert isinstance(large, TooLarge)
    assert good.as_of.applied == 41
    assert len(recorded(live)) == 1


async def test_while_nothing_can_be_looked_up_calls_with_features_are_answered(live):
    live.entities.limits = "the newest records are too old"
    refused, answered = live.answers.answer_all([described(wind=[4.0]), asked(np.ones((1, 3)))])
    assert isinstance(refused, NotReady)
    assert answered.version == 1


@pytest.mark.parametrize(
    ("inputs", "said"),
    [
        ([{"name": "wind", "datatype": "FP64", "shape": [1, 2], "data": [1.0, 2.0]}], "each once and of shape [n]"),
        ([{"name": "wind", "datatype": "FP64", "shape": [1], "data": [1.0]}] * 2, "each once and of shape [n]"),
        ([{"name": "colour", "datatype": "FP64", "shape": [1], "data": [1.0]}], "reads no column ['colour']"),
    ],
)
async def test_inputs_that_are_no_columns_are_refused_with_the_reason(client, inputs, said):
    answer = await infer(client, inputs)
    assert answer.status_code == 400
    assert said in answer.json()["error"]


async def test_a_model_that_is_not_called_by_entity_says_so(client, live):
    live.entities.on = False
    answer = await infer(client, STATIONS)
    assert (answer.status_code, "not called by entity" in answer.json()["error"]) == (400, True)


async def test_metadata_tell_the_tensors_that_describe_an_entity_beside_the_inputs(client, live):
    before = (await client.get("/v2/models/storm")).json()
    assert "entity_inputs" not in before["properties"]
    live.board.follow({before["properties"]["feature_definition"]: Followed("gusts", b"", {"wind": "FP64"})})
    found = (await client.get("/v2/models/storm")).json()
    told = found["properties"].pop("entity_inputs")
    assert orjson.loads(told) == [{"name": "wind", "datatype": "FP64", "shape": [-1]}]
    assert found == before


async def test_grpc_takes_entities_too(live, grpc_door, make):
    async with grpc.aio.insecure_channel(grpc_door) as channel:
        infer = channel.unary_unary(
            "/inference.GRPCInferenceService/ModelInfer",
            request_serializer=pb.ModelInferRequest.SerializeToString,
            response_deserializer=pb.ModelInferResponse.FromString,
        )
        tensor = pb.ModelInferRequest.InferInputTensor
        winds = tensor(name="wind", datatype="FP64", shape=[2], contents={"fp64_contents": [4.0, 2.0]})
        names = tensor(name="station", datatype="BYTES", shape=[2], contents={"bytes_contents": [b"LGA", b"EWR"]})
        async with asyncio.timeout(10):
            answer = await infer(pb.ModelInferRequest(model_name="storm", inputs=[names, winds]))
    scores = list(answer.outputs[0].contents.fp64_contents)[1::2]
    assert scores == pytest.approx(make.expected([[4, 0, 2], [2, 0, 1]], bias=0.5), abs=1e-15)
    assert answer.parameters["features_applied"].int64_param == 41
    assert answer.parameters["age_s.reading"].double_param == 3.5
