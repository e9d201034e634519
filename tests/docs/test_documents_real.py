"""All that the pages tell a reader to run, run in one session on a platform that starts empty, as the reader would."""

from collections.abc import Iterator

import pytest
from tests.docs.pages import Command
from tests.docs.walk import Ran, Walk, probability, step_of, to_run

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def walk(tmp_path_factory: pytest.TempPathFactory, clean_environment: None) -> Iterator[Walk]:
    walk = Walk(tmp_path_factory.mktemp("checkout"))
    walk.prepare()
    yield walk
    walk.run(".venv/bin/mainstem down --purge")


@pytest.mark.parametrize("command", to_run(), ids=lambda command: f"{command.place} {command.text[:60]}")
async def test_a_documented_command_does_what_its_page_says(walk: Walk, command: Command) -> None:
    ran = await walk.reach(command)
    assert ran.code == 0, told(ran)
    assert step_of(command).holds(ran.out), told(ran)
    assert "Traceback" not in ran.complaint, told(ran)


async def test_http_and_grpc_answer_with_the_same_bits(walk: Walk) -> None:
    answers = [
        (await walk.reach(command)).out
        for command in to_run()
        if command.text == "python predict.py" or (command.text.startswith("curl") and '"features"' in command.text)
    ]
    assert len(answers) == 2
    assert probability(answers[0]) == probability(answers[1])


def told(ran: Ran) -> str:
    """Return what a reader would have seen."""
    return f"$ {ran.text}\n{ran.out}{ran.complaint}(exit code {ran.code})"
