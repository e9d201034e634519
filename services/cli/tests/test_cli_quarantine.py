"""The quarantine on the command line."""

import base64
import json

import pytest

from mainstem.project.reasons import ADVICE, Reason

ROW = {
    "quarantine_id": "0123456789abcdef" * 2, "source": "plan", "reason": "out_of_range", "column_name": "delay",
    "detail": "delay: [/99] min is too much", "part": 1, "offset": 7, "record_id": "r-7", "payload_bytes": 14,
    "event_time": None, "recorded_time": "2013-01-01T00:00:00.000000Z", "accepted_id": None,
}  # fmt: skip
FULL = ROW | {"payload": base64.b64encode(b'{"delay":9999}').decode()}


def test_the_list_asks_for_what_was_wanted_only(services):
    services.on("GET /v1/quarantine", {"quarantined": [ROW]})
    done = services.run("quarantine", "list", "--source", "plan", "--status", "open", "--limit", "3", "-o", "ndjson")
    assert services.asked == [("GET /v1/quarantine?source=plan&status=open&limit=3", None)]
    assert json.loads(done.stdout) == ROW


def test_the_list_for_people_has_short_ids_and_shows_what_was_found_as_it_is(services):
    services.on("GET /v1/quarantine", {"quarantined": [ROW]})
    line = services.run("quarantine", "list").stdout.splitlines()[1]
    assert line.split()[:3] == ["0123456789ab", "plan", "out_of_range"]
    assert "delay: [/99] min is too much" in line


@pytest.mark.parametrize("option", [("--status", "lost"), ("--reason", "bad_luck"), ("--limit", "0")])
def test_a_filter_that_nothing_can_pass_is_wrong_usage(services, option):
    assert services.run("quarantine", "list", *option).exit_code == 2
    assert services.asked == []


def test_a_record_is_shown_decoded_with_the_advice_of_its_reason(services):
    services.on("GET /v1/quarantine/0123", FULL)
    told = services.run("quarantine", "show", "0123").stdout
    assert "came as        src.plan/1/7" in told
    assert "what to do     Check unit and sensor" in told
    assert told.endswith('(14 bytes):\n{\n  "delay": 9999\n}\n')


def test_a_payload_that_is_no_text_and_was_cut_is_shown_nevertheless(services):
    payload = {"payload": base64.b64encode(b"\xff{").decode(), "payload_bytes": 90_000}
    services.on("GET /v1/quarantine/0123", FULL | payload)
    assert services.run("quarantine", "show", "0123").stdout.endswith("(2 bytes, the first 2 of 90000):\n\ufffd{\n")


def test_a_payload_that_is_nested_too_deep_is_shown_as_it_came(services):
    deep = "[" * 5_000 + "]" * 5_000
    payload = {"payload": base64.b64encode(deep.encode()).decode(), "payload_bytes": 10_000}
    services.on("GET /v1/quarantine/0123", FULL | payload)
    assert services.run("quarantine", "show", "0123").stdout.endswith(f"(10000 bytes):\n{deep}\n")


def test_every_reason_has_its_advice():
    assert set(ADVICE) == set(Reason)


def test_a_correction_goes_out_in_the_name_of_the_caller(services):
    answer = {"quarantine_id": ROW["quarantine_id"], "record_id": "new"}
    services.on("POST /v1/quarantine/0123/redrive", answer, 202)
    done = services.run("quarantine", "redrive", "0123", "--record", "-", "-o", "json", given='{"delay": 9}')
    assert json.loads(done.stdout) == [answer]
    assert services.asked == [("POST /v1/quarantine/0123/redrive", {"record": {"delay": 9}})]
    assert services.tokens == ["Bearer a-token-of-the-test"]


@pytest.mark.parametrize("text", ["{", "[1]", ""])
def test_a_correction_that_is_no_object_is_refused_before_it_is_sent(services, tmp_path, text):
    (tmp_path / "mended.json").write_text(text)
    done = services.run("quarantine", "redrive", "0123", "--record", tmp_path / "mended.json")
    assert done.exit_code == 1
    assert f"mainstem: {tmp_path}/mended.json" in done.stderr
    assert services.asked == []


def test_the_sentence_of_the_service_is_passed_on(services):
    problem = {"title": "unknown quarantine id", "detail": "no single quarantined record begins with 'f'"}
    services.on("GET /v1/quarantine/f", problem, 404)
    done = services.run("quarantine", "show", "f")
    assert (done.exit_code, done.stderr) == (1, f"mainstem: {problem['title']}: {problem['detail']}\n")
