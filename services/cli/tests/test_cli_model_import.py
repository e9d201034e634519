"""Models made elsewhere on the command line."""

import json
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

PATH = "/v1/models/arrival_delay/imports"
SAID = {"run": "abcdef0123456789", "cut": "2013-05-01T00:00:00.000000Z", "imported": "sha256:f"}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    written = tmp_path / "model.onnx"
    written.write_bytes(b"\x08\x0a model")
    return written


def test_a_file_is_sent_as_it_is_under_a_command_of_its_own(services, file):
    services.on(f"POST {PATH}", SAID, 202)
    for _ in "ab":
        done = services.run("model", "import", "arrival_delay", file, "--at", SAID["cut"], "-o", "ndjson")
        assert json.loads(done.stdout) == SAID
        assert "let in; follow it with `mainstem training show abcdef01`" in done.stderr
    (first, content), (second, _) = services.asked
    asked = parse_qs(urlsplit(first).query)
    assert (content, asked["at"]) == (b"\x08\x0a model", [SAID["cut"]])
    assert asked["command_id"] != parse_qs(urlsplit(second).query)["command_id"]


def test_whoever_waits_is_told_the_version(services, file):
    version = {"version": 3, "stage": "candidate", "auc": 0.91, "run": SAID["run"], "gates": {}}
    services.on(f"POST {PATH}", SAID, 202)
    services.on(f"GET /v1/runs/{SAID['run']}", {"status": "requested", "waiting": None, "steps": []})
    services.on("GET /v1/models/arrival_delay", {"versions": [version]})
    done = services.run("model", "import", "arrival_delay", file, "--wait", "-o", "ndjson")
    assert json.loads(done.stdout) == {**SAID, "version": 3, "stage": "candidate", "auc": 0.91}


def test_a_refusal_is_told_with_its_reason(services, file):
    problem = {"title": "rejected", "detail": "operator Loop (node 'l') is not allowed"}
    services.on(f"POST {PATH}", problem, 422)
    done = services.run("model", "import", "arrival_delay", file)
    assert done.exit_code == 1
    assert "operator Loop (node 'l') is not allowed" in done.output


def test_a_file_that_is_not_there_is_wrong_usage(services, tmp_path):
    assert services.run("model", "import", "arrival_delay", tmp_path / "none").exit_code == 2
