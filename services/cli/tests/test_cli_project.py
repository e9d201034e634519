"""A definition that the registry refuses, on the command line."""

import json
from pathlib import Path

import pytest

FLIGHTS = Path(__file__).parents[3] / "projects" / "flights"
IMPACT = {
    "feature_set": "flight_delay",
    "pinned": "sha256:old",
    "proposed": "sha256:new",
    "versions": [{"model": "arrival_delay", "version": 3, "stage": "production"}],
    "datasets": ["sha256:data"],
    "consumer_groups": [{"group": "dashboard", "platform": False}, {"group": "serving", "platform": True}],
    "remedy": "declare version 2 beside it",
}
PROBLEM = {
    "type": "mainstem:feature_set_pinned",
    "title": "feature set pinned",
    "status": 409,
    "detail": "feature set 'flight_delay' is pinned; declare version 2 beside it",
    "impact": [IMPACT],
}


def refused(services, *options):
    """Apply the flights where they are refused, and return the outcome."""
    services.on("POST /v1/projects", PROBLEM, 409)
    done = services.run("project", "apply", FLIGHTS, *options)
    assert (done.exit_code, f"{PROBLEM['title']}: {PROBLEM['detail']}" in done.stderr) == (1, True)
    return done


def test_what_an_edit_would_break_is_shown_line_by_line(services):
    lines = [line.split() for line in refused(services).stdout.splitlines()]
    assert lines == [
        ["feature", "set", "breaks", "which"],
        ["flight_delay", "model", "version", "arrival_delay", "3", "production"],
        ["flight_delay", "dataset", "sha256:data"],
        ["flight_delay", "consumer", "group", "dashboard"],
        ["flight_delay", "consumer", "group", "serving", "the", "platform's", "own"],
    ]


@pytest.mark.parametrize(("form", "read"), [("json", json.loads), ("ndjson", lambda text: [json.loads(text)])])
def test_programs_get_the_list_as_the_registry_gave_it(services, form, read):
    assert read(refused(services, "-o", form).stdout) == [IMPACT]


def test_another_refusal_prints_no_list(services):
    services.on("POST /v1/projects", {**PROBLEM, "impact": []}, 409)
    assert services.run("project", "apply", FLIGHTS).stdout == ""
