"""The extensions: the repository, statistics, streams."""

import queue
from collections.abc import AsyncIterator
from typing import Any

import numpy as np
from tests.conformance.calls import ROWS, asked
from tests.conformance.sentences import DEV, MANAGED, TRITON, Client, refused, says

SPARE = {"x": np.zeros(1, np.float32)}


@says("the index lists each version with its state", *TRITON)
def index(client: Client) -> None:
    assert client.index()["storm", "1"] == ("READY", "")


@says("the index lists all versions of a model", *TRITON, on=(DEV,))
def versions(client: Client) -> None:
    assert {version for name, version in client.index() if name == "plus"} == {"1", "2", "10"}


@says("loading a model that is loaded changes nothing", *TRITON)
def load(client: Client) -> None:
    client.call("load_model", "storm")
    assert client.ready("storm")


@says("a model that there is not cannot be loaded", *TRITON)
def load_unknown(client: Client) -> None:
    assert "sun" in refused("NOT_FOUND", client.call, "load_model", "sun")


@says("a model that there is not cannot be unloaded", *TRITON)
def unload_unknown(client: Client) -> None:
    assert "sun" in refused("NOT_FOUND", client.call, "unload_model", "sun")


@says("a model does not come with a load: what lies in the repository is loaded", *TRITON)
def load_with_files(client: Client) -> None:
    brought = {"config": "{}", "files": {"file:1/model.onnx": b"no model"}}
    assert "repository" in refused("INVALID_ARGUMENT", client.call, "load_model", "storm", **brought)


@says("what approval and promotion decided is not unloaded by hand, and the error says so", *TRITON, on=(MANAGED,))
def unload_managed(client: Client) -> None:
    assert "mainstem model" in refused("INVALID_ARGUMENT", client.call, "unload_model", "storm")
    assert client.ready("storm")


@says("an unloaded model is neither ready nor answers, until it is loaded again", *TRITON, on=(DEV,))
def unload(client: Client) -> None:
    client.call("unload_model", "spare")
    try:
        assert not client.ready("spare")
        assert client.index()["spare", "1"] == ("UNAVAILABLE", "unloaded")
        assert "unloaded" in refused("UNAVAILABLE", client.infer, "spare", SPARE)
        assert client.call("is_server_ready") is True
    finally:
        client.call("load_model", "spare")
    assert client.ready("spare")
    assert client.infer("spare", SPARE).outputs["y"].tolist() == [1]


@says("a call that is answered adds one success, its rows and its runs", *TRITON)
def successes(client: Client) -> None:
    before = client.counts("storm").get(("storm", "1"))
    client.infer("storm", asked(np.tile(ROWS, (4, 1))))
    after = client.counts("storm")["storm", "1"]
    grown = {name: after[name] - before[name] for name in ("success", "fail", "rows", "runs", "compute_infer")}
    assert grown == {"success": 1, "fail": 0, "rows": 8, "runs": 1, "compute_infer": 1}
    assert after["last"] >= before["last"] > 1e12
    assert after["batches"][8] == before["batches"].get(8, 0) + 1


@says("a call that a model does not take adds one failure and nothing else", *TRITON)
def failures(client: Client) -> None:
    before = client.counts("storm")["storm", "1"]
    refused("INVALID_ARGUMENT", client.infer, "storm", asked(np.zeros((1, 4))))
    after = client.counts("storm")["storm", "1"]
    assert after == before | {"fail": before["fail"] + 1}


@says("a run that fails adds one failure", *TRITON, on=(DEV,))
def failed_runs(client: Client) -> None:
    before = client.counts("four")["four", "1"]
    refused("INTERNAL", client.infer, "four", {"x": np.zeros(3, np.float32)})
    assert client.counts("four")["four", "1"] == before | {"fail": before["fail"] + 1}


@says("statistics of no model in particular are those of all", *TRITON)
def all_statistics(client: Client) -> None:
    assert ("storm", "1") in client.counts()


@says("statistics are of each version by itself", *TRITON, on=(DEV,))
def statistics_of_versions(client: Client) -> None:
    before = client.counts("plus")
    client.infer("plus", SPARE, model_version="2")
    after = client.counts("plus")
    assert set(after) == {("plus", name) for name in ("1", "2", "10")}
    assert [after["plus", name]["success"] - before["plus", name]["success"] for name in ("1", "2", "10")] == [0, 1, 0]
    assert set(client.counts("plus", "2")) == {("plus", "2")}


@says("statistics of an unknown model or version are not found", *TRITON)
def unknown_statistics(client: Client) -> None:
    refused("NOT_FOUND", client.counts, "sun")
    refused("NOT_FOUND", client.counts, "storm", "99")


@says("a stream has its answers in order, and an error in the place of one that is wrong", "grpc", streams=True)
def stream(client: Client) -> None:
    found: queue.Queue[Any] = queue.Queue()
    client.client.start_stream(lambda result, error: found.put((result, error)))
    for number, rows in enumerate((ROWS, np.zeros((1, 4)), ROWS)):
        made = [client.input(one) for one in asked(rows)]
        client.client.async_stream_infer("storm", made, request_id=str(number))
    told = [found.get(timeout=20) for _ in range(3)]
    client.client.stop_stream()
    assert [result.get_response().id for result, error in told if error is None] == ["0", "2"]
    assert "[1, 4]" in told[1][1].message()


@says("a stream of an asynchronous client is answered in its order", "grpc.aio", streams=True)
def stream_aio(client: Client) -> None:
    async def requests() -> AsyncIterator[dict[str, object]]:
        for number in range(5):
            yield {"model_name": "storm", "inputs": [client.input(one) for one in asked()], "request_id": str(number)}

    async def told() -> list[str]:
        return [result.get_response().id async for result, error in client.client.stream_infer(requests())]

    assert client.loop.run_until_complete(told()) == list("01234")


@says("gzip and deflate are taken and given", *TRITON)
def packed(client: Client) -> None:
    rows = np.tile(ROWS, (200, 1))
    for algorithm in ("gzip", "deflate"):
        names = ("request_compression_algorithm", "response_compression_algorithm")
        said = dict.fromkeys(names, algorithm) if client.http else {"compression_algorithm": algorithm}
        assert client.infer("storm", asked(rows), **said).outputs["probabilities"].shape == (400, 2)
