"""The OpenAPI document says what is served over HTTP, everything and nothing else."""

import asyncio
import json
import sys
from pathlib import Path

import httpx
import jsonschema
import pytest
from starlette.routing import Route

from mainstem.runtime.health import Health
from mainstem.runtime.http import application
from mainstem.serving.api import Api, metrics_of
from mainstem.serving.managed import Managed

#: Not asked: a schema cannot say that data has as many cells as the shape says, or that a model has three inputs.
BEYOND_SCHEMAS = "positive_data_acceptance"
BODY = {"inputs": [{"name": "features", "datatype": "FP64", "shape": [1, 3], "data": [1.0, 2.0, 3.0]}]}


@pytest.fixture
async def client(service, door):
    await service.deploy(bias=0.5, most=10.0)  # so that every number has an answer
    service.spool._cap = 1 << 30
    async with httpx.AsyncClient(base_url=f"http://{door}", timeout=20) as client:
        yield client


@pytest.fixture
async def document(client):
    return (await client.get("/openapi.json")).raise_for_status().json()


def operations(document):
    """Return (method, path) of everything, with the model that there is."""
    return [
        (name.upper(), path)
        for path, said in sorted(document["paths"].items())
        for name in sorted(said)
        if name != "parameters"
    ]


def filled(path):
    return path.replace("{model}", "storm").replace("{version}", "1")


async def test_every_route_is_in_the_document_and_only_those(service, document):
    routes = application(Health(), [metrics_of(None), *Api(Managed(service.board, service.used)).routes()]).routes
    cold = {
        (method, route.path.rstrip("/") or "/")
        for route in routes
        if isinstance(route, Route)
        for method in route.methods - {"HEAD"}
    }
    hot = {
        (method, path)
        for method, path in operations(document)
        if service.http_api().route(method.encode(), filled(path).encode(), ())
    }
    assert cold | hot == set(operations(document))
    assert ("POST", "/v2/models/{model}/infer") in hot


async def test_whatever_is_in_the_document_is_answered_as_it_says(client, document):
    for method, path in operations(document):
        answer = await client.request(method, filled(path), json=BODY if path.endswith("/infer") else None)
        said = document["paths"][path][method.lower()]["responses"]
        assert str(answer.status_code) in said, (method, path, answer.text)
        assert answer.status_code == (400 if path.endswith("/unload") else 200), (method, path)
        kind, _, _ = answer.headers["content-type"].partition(";")
        found = said[str(answer.status_code)]
        if "$ref" in found:
            found = document["components"]["responses"][found["$ref"].rpartition("/")[2]]
        if kind == "application/json":
            schema = {**found["content"][kind]["schema"], "components": document["components"]}
            jsonschema.validate(answer.json(), schema)


async def test_another_method_is_told_which_ones_there_are(client, document):
    for path in sorted(document["paths"]):
        allowed = {method for method, each in operations(document) if each == path}
        for method in {"GET", "POST", "PUT", "DELETE", "PATCH"} - allowed:
            answer = await client.request(method, filled(path))
            assert answer.status_code == 405, (method, path)
            assert set(answer.headers["allow"].split(", ")) - {"HEAD"} == allowed
    answer = await client.put("/v2/models/storm/infer")
    assert answer.json() == {"error": "/v2/models/storm/infer takes POST, not PUT"}


async def examined(folder, *arguments):
    """Have Schemathesis ask whatever the document allows, and what it forbids; return its exit code and report."""
    process = await asyncio.create_subprocess_exec(
        *(str(Path(sys.executable).with_name("st")), "--no-color", "run", *arguments),
        *("--exclude-checks", BEYOND_SCHEMAS, "--max-examples", "25", "--seed", "1", "--generation-database", "none"),
        cwd=folder,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    out, _ = await process.communicate()
    return process.returncode, out.decode()


@pytest.mark.parametrize("known", ["", '[parameters]\nmodel = "storm"\nversion = "1"\n'], ids=["any model", "ours"])
async def test_a_tool_that_reads_the_document_finds_nothing_that_differs(client, tmp_path, known):
    (tmp_path / "schemathesis.toml").write_text(known)
    code, report = await examined(tmp_path, f"{client.base_url}/openapi.json")
    assert code == 0, report[-6_000:]
    assert "18 selected / 18 total" in report


async def test_that_tool_would_find_a_difference(client, document, tmp_path):
    path = "/v2/models/{model}/ready"
    document["paths"] = {path: document["paths"][path]}
    del document["paths"][path]["get"]["responses"]["404"]
    (tmp_path / "openapi.json").write_text(json.dumps(document))
    code, report = await examined(tmp_path, "openapi.json", "--url", str(client.base_url))
    assert (code, "Received: 404" in report) == (1, True), report
