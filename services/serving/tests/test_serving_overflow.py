"""What becomes of answers that cannot be recorded: none is given, or, where no rule asks for more, one without."""

import errno
import os

import numpy as np
import pytest

from mainstem.bus.spool import Spool
from mainstem.inference.errors import NotReady
from mainstem.serving.memory import MemoryStore
from mainstem.serving.ports import Question
from mainstem.storage import Artifacts
from mainstem.telemetry import metrics
from mainstem.testkit.records import Log

CAP = 1 << 17


def books():
    """Return how many rows were answered, recorded and dropped since the process began."""
    answered, recorded = metrics.PREDICTIONS.labels("storm", "1", "http"), metrics.ANSWERS_RECORDED.labels("storm")
    return np.array([answered.value, recorded.value, metrics.ANSWERS_DROPPED.labels("storm").value])


@pytest.fixture
async def full(tmp_path, make):
    """Return a service whose spool is small, and a version that answers."""
    with_room = Spool(tmp_path / "spool", CAP)
    service = make.make_service(MemoryStore(), Artifacts(tmp_path / "artifacts"), with_room, Log())
    await service.deploy(1)
    yield service
    with_room.close()


def ask(service, calls=2000, rows=2):
    """Ask in turns of ten calls; return every answer, and how many calls were refused."""
    found = []
    for first in range(0, calls, 10):
        turn = [
            Question("storm", None, f"q{number}", "http", np.full((rows, 3), float(number)))
            for number in range(first, first + 10)
        ]
        found += service.answers.answer_all(turn)
    refused = [each for each in found if isinstance(each, Exception)]
    assert {type(each) for each in refused} <= {NotReady}
    return [each for each in found if not isinstance(each, Exception)], len(refused)


async def test_what_cannot_be_recorded_is_not_answered(full):
    before = books()
    answers, refused = ask(full)
    answered, recorded, dropped = books() - before
    assert refused > 500
    assert (answered, recorded, dropped) == (2 * len(answers), 2 * len(answers), 0)
    assert recorded == len(full.spooled())


async def test_a_model_that_no_rule_covers_goes_on_and_keeps_a_uniform_sample(full):
    before = books()
    full.board.let_drop({"storm"})
    answers, refused = ask(full, calls=6000)
    answered, recorded, dropped = books() - before
    assert (refused, len(answers), answered) == (0, 6000, 12_000)
    assert answered == recorded + dropped
    assert recorded == len(full.spooled())
    kept = [answer.prediction is not None for answer in answers]
    assert recorded == 2 * sum(kept)
    first = kept.index(False)
    shares = [np.mean(part) for part in np.array_split(kept[first:], 2)]
    assert shares == pytest.approx([0.01, 0.01], abs=0.009)
    assert answers[-1].id == "q5999"
    assert full.spool.size <= CAP


async def test_what_may_drop_leaves_room_for_what_must_not(full):
    full.board.let_drop({"storm"})
    ask(full)
    full.board.let_drop(set())
    assert len(ask(full, calls=20)[0]) == 20


@pytest.mark.parametrize("droppable", [False, True])
async def test_a_full_disk_follows_the_policy_and_the_books_balance(full, monkeypatch, droppable):
    full.board.let_drop({"storm"} if droppable else set())
    answers, _ = ask(full, calls=10)

    def no_space(*_):
        raise OSError(errno.ENOSPC, "no space left on device")

    before = books()
    with monkeypatch.context() as disk:
        disk.setattr(os, "write", no_space)
        found, refused = ask(full, calls=200)
    answered, recorded, dropped = books() - before
    assert (len(found), refused) == ((200, 0) if droppable else (0, 200))
    assert (answered, recorded, dropped) == ((400, 0, 400) if droppable else (0, 0, 0))
    assert all(answer.prediction is None for answer in found)
    again, _ = ask(full, calls=10)
    assert len(full.spooled()) == 2 * len(answers + again)
