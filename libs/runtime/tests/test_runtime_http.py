import json
from collections.abc import AsyncIterator

import httpx
import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from mainstem.auth import Principals, Right
from mainstem.events.errors import Rejected, Unavailable
from mainstem.runtime import Problem, authenticate, json_body
from mainstem.runtime.health import Health
from mainstem.runtime.http import MAX_BODY_BYTES, application

TOKENS = json.dumps(
    [
        {"name": "ann", "roles": ["operator"], "token": "a" * 32},
        {"name": "bob", "roles": ["approver"], "token": "b" * 32},
    ]
)
FAULTS = {
    "problem": Problem(409, "taken", "version 3 is taken"),
    "unavailable": Unavailable("Kafka is away"),
    "rejected": Rejected("no"),
}


async def fail(request: Request) -> Response:
    raise FAULTS[request.path_params["kind"]]


async def echo(request: Request) -> Response:
    return JSONResponse(await json_body(request))


async def whoami(request: Request) -> Response:
    return JSONResponse(authenticate(request, Principals.parse(TOKENS), Right.OPERATE).name)


@pytest.fixture
def health() -> Health:
    return Health()


@pytest.fixture
async def client(health: Health) -> AsyncIterator[httpx.AsyncClient]:
    routes = [Route("/fail/{kind}", fail), Route("/echo", echo, methods=["POST"]), Route("/whoami", whoami)]
    transport = httpx.ASGITransport(application(health, routes))
    async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
        yield client


async def test_half_of_a_surrogate_pair_is_no_text(client: httpx.AsyncClient) -> None:
    answer = await client.post("/echo", content=b'{"a": "\\ud800"}')
    assert (answer.status_code, answer.json()["title"]) == (400, "malformed json")
    assert (await client.post("/echo", content=b'{"a": "\\ud83d\\ude00"}')).json() == {"a": "\U0001f600"}


async def test_a_process_is_live_and_ready_when_nothing_is_required(client: httpx.AsyncClient) -> None:
    assert (await client.get("/livez")).json() == {"live": True}
    assert (await client.get("/readyz")).json() == {"ready": True, "faults": {}}


async def test_a_failed_check_makes_it_unready_and_says_why(client: httpx.AsyncClient, health: Health) -> None:
    health.require("good", lambda: None)
    health.require("lag", lambda: "7 records behind")
    answer = await client.get("/readyz")
    assert (answer.status_code, answer.json()) == (503, {"ready": False, "faults": {"lag": "7 records behind"}})


async def test_metrics_are_in_the_prometheus_text_format(client: httpx.AsyncClient) -> None:
    answer = await client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert "# TYPE mainstem_records_fenced_total counter" in answer.text


@pytest.mark.parametrize(
    ("kind", "status", "title", "detail"),
    [
        ("problem", 409, "taken", "version 3 is taken"),
        ("unavailable", 503, "unavailable", "Kafka is away; nothing was done, try again"),
        ("rejected", 422, "rejected", "no"),
    ],
)
async def test_an_error_is_a_problem_document(
    client: httpx.AsyncClient, kind: str, status: int, title: str, detail: str
) -> None:
    answer = await client.get(f"/fail/{kind}")
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json() == {"type": f"mainstem:{title}", "title": title, "status": status, "detail": detail}
    assert answer.status_code == status


async def test_what_nobody_expected_is_a_problem_document_too_and_is_raised_for_the_log(health: Health) -> None:
    app = application(health, [Route("/fail/{kind}", fail)])
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://service") as client:
        with pytest.raises(KeyError):
            await client.get("/fail/nobody")
    silent = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=silent, base_url="http://service") as client:
        answer = await client.get("/fail/nobody")
    assert (answer.status_code, answer.json()["title"]) == (500, "unexpected")


@pytest.mark.parametrize(
    "path", ["/fail/rejected", "/fail/problem", "/fail/unavailable", "/fail/nobody", "/fail/a%00b"]
)
async def test_a_service_may_tell_errors_in_a_form_of_its_own(health: Health, path: str) -> None:
    def tell(status: int, code: str, why: str) -> Response:
        return JSONResponse([code, why], status)

    app = application(health, [Route("/fail/{kind}", fail)], tell)
    silent = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=silent, base_url="http://service") as client:
        answer = await client.get(path)
    assert (answer.status_code >= 400, len(answer.json())) == (True, 2)


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b"[" * 100_000])
async def test_a_body_that_is_no_json_is_the_callers_fault(client: httpx.AsyncClient, body: bytes) -> None:
    answer = await client.post("/echo", content=body)
    assert (answer.status_code, answer.json()["title"]) == (400, "malformed json")


@pytest.mark.parametrize("address", ["/fail/a%00b", "/readyz?name=a%00b"])
async def test_an_address_with_the_character_that_no_table_keeps_is_the_callers_fault(
    client: httpx.AsyncClient, address: str
) -> None:
    answer = await client.get(address)
    assert (answer.status_code, answer.json()["title"]) == (400, "malformed address")


async def test_so_is_a_body_with_it(client: httpx.AsyncClient) -> None:
    answer = await client.post("/echo", content=b'{"name": "a\\u0000b"}')
    assert (answer.status_code, answer.json()["title"]) == (400, "malformed body")


async def test_a_body_may_be_as_large_as_the_limit_and_not_larger(client: httpx.AsyncClient) -> None:
    fits = b'"' + b"x" * (MAX_BODY_BYTES - 2) + b'"'
    assert (await client.post("/echo", content=fits)).status_code == 200
    answer = await client.post("/echo", content=fits + b" ")
    assert (answer.status_code, answer.json()["title"]) == (413, "too large")


@pytest.mark.parametrize(
    ("header", "status"),
    [
        (None, 401),
        ("Bearer", 401),
        (f"Basic {'a' * 32}", 401),
        (f"Bearer {'x' * 32}", 401),
        (f"Bearer {'b' * 32}", 403),
        (f"Bearer {'a' * 32}", 200),
        (f"bearer {'a' * 32}", 200),
    ],
)
async def test_only_a_known_token_with_the_right_is_let_in(
    client: httpx.AsyncClient, header: str | None, status: int
) -> None:
    answer = await client.get("/whoami", headers={} if header is None else {"authorization": header})
    assert answer.status_code == status
