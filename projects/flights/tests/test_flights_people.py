"""The people of the demo: what they do when the platform does not take a command at once."""

import json

import httpx
import pytest
from projects.flights.demo import people as module
from projects.flights.demo.people import People

LATER = {"type": "not_evidenced", "detail": "the ledger has not signed it yet"}


@pytest.fixture
async def asked(tmp_path, monkeypatch):
    """Return an approver, what they asked, and the answers that they are to get before they are believed."""
    (tmp_path / "principals").write_text(json.dumps([{"name": "approver", "token": "secret"}]))
    commands, answers = [], []

    def answer(request):
        commands.append(json.loads(request.content))
        return answers.pop() if answers else httpx.Response(200, json={})

    class Client(httpx.AsyncClient):
        def __init__(self, **more):
            super().__init__(transport=httpx.MockTransport(answer), **more)

    monkeypatch.setattr(module.httpx, "AsyncClient", Client)
    env = {"MAINSTEM_PRINCIPALS": str(tmp_path / "principals"), "MAINSTEM_REGISTRY_URL": "http://registry"}
    async with People(env) as people:
        yield people, commands, answers


async def test_a_command_that_the_ledger_has_not_signed_is_given_again_and_is_the_same(asked):
    people, commands, answers = asked
    answers += [httpx.Response(503, json=LATER) for _ in range(2)]
    await people.approve("delay", 1, 0)
    assert len(commands) == 3
    assert all(command == commands[0] for command in commands)


async def test_a_command_that_the_ledger_never_signs_fails_and_says_why(asked, monkeypatch):
    people, commands, answers = asked
    monkeypatch.setattr(module, "_EVIDENCE_S", 0)
    answers.append(httpx.Response(503, json=LATER))
    with pytest.raises(RuntimeError, match=r"approver POST .*/approve: 503 .*not_evidenced"):
        await people.approve("delay", 1, 0)
    assert len(commands) == 1


async def test_a_command_that_is_refused_is_given_once(asked):
    people, commands, answers = asked
    answers.append(httpx.Response(403, json={"detail": "you built it"}))
    with pytest.raises(RuntimeError, match=r"403 .*you built it"):
        await people.approve("delay", 1, 0)
    assert len(commands) == 1
