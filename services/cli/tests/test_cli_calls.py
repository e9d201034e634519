"""Commands given to a service: one that is not proved yet is given again, and is the same."""

import httpx
import pytest

from mainstem.cli import calls
from mainstem.cli.calls import CallRefused

LATE = httpx.Response(
    503,
    headers={"content-type": "application/problem+json"},
    json={"type": "mainstem:not_evidenced", "title": "not evidenced", "detail": "the decision stands"},
)
DONE = httpx.Response(200, json={"stage": "production"})


@pytest.fixture
def given(monkeypatch):
    """Answer commands with what is left of a list, its last one for ever; return it, and what was given."""
    answers, seen = [], []

    def request(method, url, *, json, headers, timeout):
        seen.append((method, url, json, headers))
        answer = answers.pop(0) if answers[1:] else answers[0]
        answer.request = httpx.Request(method, url)
        return answer

    monkeypatch.setattr(httpx, "request", request)
    monkeypatch.setenv("MAINSTEM_REGISTRY_URL", "http://registry")
    monkeypatch.setenv("MAINSTEM_TOKEN", "t")
    return answers, seen


def approve():
    return calls.post("registry", "/approve", {"command_id": "once"}, by="approver")


def test_a_decision_that_is_not_proved_yet_is_given_again_as_the_same_command(given, capsys):
    answers, seen = given
    answers += [LATE, LATE, DONE]
    assert approve() == {"stage": "production"}
    assert seen == 3 * [("POST", "http://registry/approve", {"command_id": "once"}, {"authorization": "Bearer t"})]
    assert capsys.readouterr().err.count("not signed yet; waiting for the ledger") == 2


def test_after_a_minute_it_is_said_that_it_is_not_proved(given, monkeypatch):
    answers, seen = given
    answers.append(LATE)
    monkeypatch.setattr(calls, "_EVIDENCE_S", 0)
    with pytest.raises(CallRefused, match="has not signed it within a minute; do not give it again"):
        approve()
    assert seen


def test_what_was_refused_is_not_given_again(given):
    answers, seen = given
    problem = {"type": "mainstem:four_eyes", "title": "four eyes", "detail": "somebody else"}
    answers.append(httpx.Response(403, headers={"content-type": "application/problem+json"}, json=problem))
    with pytest.raises(CallRefused, match="four eyes"):
        approve()
    assert len(seen) == 1
