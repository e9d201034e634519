"""Services that answer what a test tells them to, over real HTTP."""

import json
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result


@dataclass
class Answers:
    """What is answered to each method and path, the query left out, and what was asked."""

    answers: dict[str, tuple[int, dict[str, Any]]] = field(default_factory=dict)
    asked: list[tuple[str, Any]] = field(default_factory=list)
    tokens: list[str | None] = field(default_factory=list)

    def on(self, request: str, answer: dict[str, Any], status: int = 200) -> None:
        """Answer `GET /v1/…` like this from now on."""
        self.answers[request] = (status, answer)

    def run(self, *arguments: object, given: str | None = None) -> Result:
        """Run the command line."""
        from mainstem.cli.main import app  # noqa: PLC0415  (its import is no part of starting the tests)

        return CliRunner().invoke(app, [str(argument) for argument in arguments], input=given)


@pytest.fixture(autouse=True)
def sockets(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the folders of sockets that nobody opens among what is cleaned up after the tests."""
    if request.node.get_closest_marker("real") is None:
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


@pytest.fixture
def services(monkeypatch: pytest.MonkeyPatch) -> Iterator[Answers]:
    found = Answers()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer()

        def do_POST(self) -> None:
            self._answer()

        def _answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            written = json.loads if self.headers.get("content-type") == "application/json" else bytes
            found.asked.append((f"{self.command} {self.path}", written(body) if body else None))
            found.tokens.append(self.headers["authorization"])
            status, answer = found.answers[f"{self.command} {self.path.partition('?')[0]}"]
            self.send_response(status)
            self.send_header("content-type", "application/json" if status < 400 else "application/problem+json")
            self.end_headers()
            self.wfile.write(json.dumps(answer).encode())

        def log_message(self, *_: object) -> None:
            """Keep the tests quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    for service in ("INGESTION", "FEATURES", "REGISTRY", "TRAINING", "MONITORING"):
        monkeypatch.setenv(f"MAINSTEM_{service}_URL", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("MAINSTEM_TOKEN", "a-token-of-the-test")
    yield found
    server.shutdown()
    server.server_close()
    thread.join()
