"""`serve --dev`: where it runs, what it makes of a folder, and how it ends."""

import asyncio
import os
import pickle
import signal
import sys
from functools import cache
from pathlib import Path
from threading import Barrier

import grpc
import httpx
import numpy as np
import onnx
import psutil
import pytest
from onnx import TensorProto, helper, numpy_helper

from mainstem.inference import Request, Tensor
from mainstem.inference import open_inference_pb2 as pb
from mainstem.inference.errors import NoAnswer, NotReady, Unknown
from mainstem.serving.dev import NotHere, Place, opened
from mainstem.serving.models import Inference
from mainstem.serving.rpc import SERVICE
from mainstem.serving.unmanaged import Folder, pass_gate

#: The gate, which looks at each of these models once.
admitted = cache(pass_gate)


def adding(number):
    """Return a model that adds a number to its input."""
    constant = numpy_helper.from_array(np.array(number, np.float32), "number")
    taken = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n"])
    given = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n"])
    graph = helper.make_graph([helper.make_node("Add", ["x", "number"], ["y"])], "adding", [taken], [given], [constant])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


def endless():
    """Return a model that never ends."""
    index, vector = (("i", TensorProto.INT64, []), ("v", TensorProto.FLOAT, ["n"]))
    inputs, outputs = (
        (index, ("on", TensorProto.BOOL, []), vector),
        (("still", TensorProto.BOOL, []), ("w", *vector[1:])),
    )
    nodes = [helper.make_node("Identity", ["on"], ["still"]), helper.make_node("Sin", ["v"], ["w"])]
    told = [[helper.make_tensor_value_info(*each) for each in some] for some in (inputs, outputs)]
    body = helper.make_graph(nodes, "body", *told)
    true = numpy_helper.from_array(np.array(1, bool), "true")
    taken = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n"])
    given = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n"])
    loop = helper.make_node("Loop", ["", "true", "x"], ["y"], body=body)
    graph = helper.make_graph([loop], "endless", [taken], [given], [true])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


def put(folder, path, model):
    """Write a model to a path of the folder."""
    (folder / path).parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, folder / path)


async def ask(models, model="plus", version=None, values=(1.0, 2.0)):
    """Return the answer to a call, or raise why there is none."""
    answered = asyncio.get_running_loop().create_future()
    request = Request([Tensor("x", np.array(values, np.float32))])
    models.infer(Inference(model, version, "mine", "http", request), answered.set_result)
    found = await answered
    if isinstance(found, Exception):
        raise found
    return found


@pytest.fixture
async def models(tmp_path):
    """Versions 2 and 10 of `plus`, by what they add, and `one`."""
    put(tmp_path, "plus/2/model.onnx", adding(2))
    put(tmp_path, "plus/10/model.onnx", adding(10))
    put(tmp_path, "one.onnx", adding(1))
    opened = Folder(tmp_path, admitted)
    yield opened
    opened.close()


@pytest.mark.parametrize(
    ("environment", "said", "why"),
    [
        ({"MAINSTEM_ENVIRONMENT": "production"}, {}, "MAINSTEM_ENVIRONMENT is 'production'"),
        ({}, {"host": "0.0.0.0"}, "'0.0.0.0' can be reached by others"),  # noqa: S104
        ({}, {"host": "example.org"}, "'example.org' can be reached by others"),
        ({}, {"folder": Path("nowhere")}, "nowhere is no folder"),
    ],
)
def test_unapproved_models_are_served_on_a_developers_machine_alone(tmp_path, environment, said, why):
    with pytest.raises(NotHere, match=why):
        Place(**{"folder": tmp_path, **said}).check(environment)


async def test_the_highest_version_answers_and_any_other_by_its_name(models):
    assert [(await ask(models, version=name)).outputs[0][0].values.tolist() for name in (None, "2")] == [
        [11.0, 12.0],
        [3.0, 4.0],
    ]


async def test_every_answer_says_that_nobody_manages_the_model(models):
    answer = await ask(models, "one")
    assert (answer.version, answer.id, answer.parameters) == ("1", "mine", {"unmanaged": True})
    assert models.metadata("one", None)["properties"] == {"unmanaged": "true", "file": "one.onnx"}


async def test_statistics_say_how_long_a_call_waited_for_those_before_it(models):
    await asyncio.gather(*(ask(models) for _ in range(50)))
    (told,) = (one["inference_stats"] for one in await models.statistics("plus", "10"))
    assert told["queue"]["count"] == told["compute_infer"]["count"] == 50
    assert 0 < told["compute_infer"]["ns"] < told["queue"]["ns"]  # on average, 24 others run while a call waits
    assert told["success"]["ns"] == told["queue"]["ns"] + told["compute_infer"]["ns"]


async def test_a_load_takes_the_files_as_they_are_now(models, tmp_path):
    put(tmp_path, "plus/11/model.onnx", adding(11))
    (tmp_path / "plus/2/model.onnx").unlink()
    await models.load("plus")
    assert (await ask(models)).version == "11"
    assert models.metadata("plus", None)["versions"] == ["10", "11"]
    with pytest.raises(Unknown, match=r"no version '2' of model 'plus'"):
        await ask(models, version="2")


async def test_a_model_without_files_is_gone_with_the_next_load(models, tmp_path):
    (tmp_path / "one.onnx").unlink()
    assert (await ask(models, "one")).version == "1"
    with pytest.raises(Unknown, match=r"no one\.onnx"):
        await models.load("one")
    with pytest.raises(Unknown):
        await ask(models, "one")


async def test_an_unloaded_model_answers_no_more_until_it_is_loaded(models):
    await models.unload("one")
    with pytest.raises(NotReady, match="unloaded; load it"):
        await ask(models, "one")
    assert models.fault() is None
    await models.load("one")
    assert (await ask(models, "one")).version == "1"


@pytest.mark.alone
async def test_memory_is_flat_over_a_thousand_loads_and_unloads(models):
    sizes = []
    for _ in range(1_000):
        await models.unload("one")
        await models.load("one")
        sizes.append(psutil.Process().memory_info().rss)
    assert (await ask(models, "one")).outputs
    assert sizes[-1] - sizes[100] < 2 << 20


async def test_a_file_that_is_no_model_is_named_and_makes_the_server_unready(models, tmp_path):
    (tmp_path / "one.onnx").write_bytes(b"no model")
    with pytest.raises(NotReady, match=r"one\.onnx: it is no ONNX model.*; what answered before goes on"):
        await models.load("one")
    assert (models.fault(), (await ask(models, "one")).version) == (None, "1")
    await models.unload("one")
    with pytest.raises(NotReady, match=r"one\.onnx: it is no ONNX model[^;]*$"):
        await models.load("one")
    assert str(tmp_path / "one.onnx") in models.fault()
    assert [one.state for one in models.index()] == ["UNAVAILABLE", "READY", "READY"]


async def test_what_the_gate_refuses_is_named_with_its_reason_and_the_others_answer(tmp_path):
    put(tmp_path, "plus.onnx", adding(1))
    put(tmp_path, "endless.onnx", endless())
    (tmp_path / "pickled.onnx").write_bytes(pickle.dumps({"weights": [1.0]}))
    models = Folder(tmp_path, admitted)
    assert (await ask(models)).outputs[0][0].values.tolist() == [2.0, 3.0]
    reasons = {one.name: one.reason for one in models.index()}
    models.close()
    assert reasons["plus"] == ""
    assert f"{tmp_path}/endless.onnx: operator Loop" in reasons["endless"]
    assert f"{tmp_path}/pickled.onnx: it is a pickle" in reasons["pickled"]
    with pytest.raises(NotReady, match=r"model 'endless' version 1 does not answer: .* is not allowed"):
        await ask(models, "endless")


async def test_a_name_that_is_no_utf_8_is_shown_with_its_bytes_and_harms_nobody(tmp_path):
    put(tmp_path, os.fsdecode(b"bad\xff.onnx"), adding(1))
    put(tmp_path, os.fsdecode(b"plus/v\xfe/model.onnx"), adding(2))
    put(tmp_path, "plus/3/model.onnx", adding(3))
    (tmp_path / os.fsdecode(b"broken\xff.onnx")).write_bytes(b"no model")
    models = Folder(tmp_path, admitted)
    async with opened(Place(tmp_path, http_port=0, grpc_port=0), models) as (http_port, grpc_port):
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{http_port}") as client:
            index = (await client.post("/v2/repository/index")).json()
            counted = (await client.get("/v2/models/stats")).json()["model_stats"]
            told = (await client.get(r"/v2/models/bad%5Cxff")).json()
            unready = await client.get("/v2/health/ready")
            gone = await client.post("/v2/repository/models/gone/load")
        async with grpc.aio.insecure_channel(f"127.0.0.1:{grpc_port}") as channel:
            listed = await channel.unary_unary(f"/{SERVICE}/RepositoryIndex")(b"")
    assert (await ask(models)).version == "3"
    models.close()
    names = [(r"bad\xff", "1"), (r"broken\xff", "1"), ("plus", r"v\xfe"), ("plus", "3")]
    assert [(one["name"], one["version"]) for one in index] == names
    assert [one["name"] for one in counted] == [name for name, _ in names]
    assert told["properties"]["file"] == r"bad\xff.onnx"
    assert rf"{tmp_path}/broken\xff.onnx: it is no ONNX model" in unready.json()["error"]
    assert (gone.status_code, list(gone.json())) == (404, ["error"])
    assert pb.RepositoryIndexResponse.FromString(listed).models[0].name == r"bad\xff"


async def test_a_folder_with_such_a_name_is_served_too(tmp_path):
    folder = tmp_path / os.fsdecode(b"f\xff")
    put(folder, "plus.onnx", adding(1))
    (folder / "no.onnx").write_bytes(b"no model")
    models = Folder(folder, admitted)
    reasons = models.fault()
    with pytest.raises(Unknown, match=r"in .*f\\xff$") as raised:
        await models.load("gone")
    models.close()
    assert rf"{tmp_path}/f\xff/no.onnx: it is no ONNX model" in reasons
    assert (reasons + str(raised.value)).isascii()


async def test_an_address_that_is_none_is_told_as_the_protocol_tells_errors(models, tmp_path):
    async with opened(Place(tmp_path, http_port=0, grpc_port=0), models) as (port, _), httpx.AsyncClient() as client:
        answer = await client.get(f"http://127.0.0.1:{port}/v2/models/a%00b/stats")
    assert (answer.status_code, list(answer.json())) == (400, ["error"])


async def test_what_is_too_large_for_the_gate_or_no_file_is_named_and_not_read(tmp_path):
    put(tmp_path, "plus.onnx", adding(1))
    with (tmp_path / "big.onnx").open("wb") as file:
        file.truncate(20 << 30)
    (tmp_path / "endless.onnx").symlink_to("/dev/zero")
    os.mkfifo(tmp_path / "pipe.onnx")
    read = []
    models = Folder(tmp_path, lambda content: read.append(len(content)))
    reasons = {one.name: one.reason for one in models.index()}
    models.close()
    assert len(read) == 1
    assert reasons["plus"] == ""
    assert f"{tmp_path}/big.onnx: it has {20 << 30} bytes; a model has at most {32 << 20}" == reasons["big"]
    assert "endless.onnx: it is no file that can be read" in reasons["endless"]
    assert "pipe.onnx: it is no file that can be read" in reasons["pipe"]


async def test_files_are_examined_side_by_side(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    put(tmp_path, "one.onnx", adding(1))
    put(tmp_path, "two.onnx", adding(2))
    both = Barrier(2, timeout=10)
    models = Folder(tmp_path, lambda _: both.wait())
    assert [one.state for one in models.index()] == ["READY", "READY"]
    models.close()


async def test_two_files_for_one_version_are_refused_by_name_and_what_answered_goes_on(models, tmp_path):
    put(tmp_path, "one/1/model.onnx", adding(1))
    with pytest.raises(NotReady, match=r"one\.onnx: .*one/1/model\.onnx is the same version of the same model; remove"):
        await models.load("one")
    assert (await ask(models, "one")).version == "1"


async def test_two_files_for_one_version_keep_no_other_model_from_answering(tmp_path):
    for file in ("one.onnx", "one/1/model.onnx", "two.onnx"):
        put(tmp_path, file, adding(1))
    models = Folder(tmp_path)
    assert [(one.name, one.state) for one in models.index()] == [("one", "UNAVAILABLE"), ("two", "READY")]
    assert (await ask(models, "two")).version == "1"
    with pytest.raises(NotReady, match="remove one"):
        await ask(models, "one")
    (tmp_path / "one.onnx").unlink()
    await models.load("one")
    assert (await ask(models, "one")).version == "1"
    models.close()


async def test_what_ends_while_a_model_runs_ends(tmp_path):
    put(tmp_path, "endless.onnx", endless())
    models = Folder(tmp_path, lambda _: None)  # the gate lets no loop in
    running = asyncio.ensure_future(ask(models, "endless"))
    await asyncio.sleep(0)
    async with asyncio.timeout(10):
        await asyncio.to_thread(models.close)
        with pytest.raises((NoAnswer, NotReady)):
            await running


async def test_ctrl_c_ends_the_command_without_a_word(tmp_path):
    put(tmp_path, "plus.onnx", adding(1))
    command = (Path(sys.executable).with_name("mainstem"), "serve", "--dev", tmp_path)
    process = await asyncio.create_subprocess_exec(
        *command, "--http-port", "0", "--grpc-port", "0", stderr=asyncio.subprocess.PIPE
    )
    async with asyncio.timeout(30):
        assert await process.stderr.readline() == b"plus version 1: ready\n"
        _, _, address = (await process.stderr.readline()).decode().split(",")[0].partition("HTTP on ")
        async with httpx.AsyncClient(base_url=f"http://{address}") as client:
            assert (await client.get("/v2/health/ready")).status_code == 200
        process.send_signal(signal.SIGINT)
        assert (await process.stderr.read(), await process.wait()) == (b"", 0)
