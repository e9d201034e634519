"""Direct calls without a socket: does one cost more among many models, and how long does a switch take?

One process, one core; the works are done in turn. Calls that two versions share are two runs a turn and not one.
"""

import asyncio
import json
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import numpy as np
from sklearn.ensemble import HistGradientBoostingClassifier
from tests.bench.clock import OWN
from tests.bench.goals import Goal, Outcome, Work, interleaved, the_cost

from mainstem.bus.spool import Spool
from mainstem.serving.answers import Answers
from mainstem.serving.board import Board
from mainstem.serving.domain import Activation, Arm, LogTime
from mainstem.serving.engine import Model
from mainstem.serving.lookups import Lookups
from mainstem.serving.ports import Question
from mainstem.telemetry import Tracer
from mainstem.training.onnx_export import to_onnx

WIDTH: Final = 15
#: Calls of a turn of the loop, and turns of a round.
CALLS, TURNS = 32, 300
SWITCHES: Final = 200
_SPOOL_BYTES: Final = 8 << 30


def measure() -> list[Outcome]:
    """Compare calls among 100 and 10 models and with arms with those of a model that is alone."""
    random = np.random.default_rng(1)
    x = random.normal(size=(2_000, WIDTH))
    onnx = to_onnx(HistGradientBoostingClassifier(max_iter=100).fit(x, x[:, 0] + x[:, 1] > 0))
    with _answers() as make:
        boards = {str(models): _board(models, onnx) for models in (1, 10, 100)}
        boards |= {"arms": _board(1, onnx, (Arm(2, "other", 2_500, shadow=False),))}
        works = {name: _work(make(board), x) for name, board in boards.items()}
        taken = interleaved(works)
        switched = interleaved({"switch": _switching(boards["100"])})["switch"]
    return [
        the_cost("a call among 10 models", "a call of the only one", taken["10"], taken["1"], 1.1),
        the_cost("a call among 100 models", "a call of the only one", taken["100"], taken["1"], 1.1),
        the_cost("a call that two versions share", "a call of the only one", taken["arms"], taken["1"], 1.5),
        Outcome("a switch among 100 models", "", float(np.median(switched)) / 1e3, "ms", Goal(1)),
    ]


@contextmanager
def _answers() -> Iterator[Callable[[Board], Answers]]:
    """Lend what makes answers over a board, each with a spool of its own."""
    with tempfile.TemporaryDirectory() as folder:
        spools: list[Spool] = []

        def make(board: Board) -> Answers:
            spools.append(Spool(Path(folder, str(len(spools))), _SPOOL_BYTES))
            return Answers(board, LogTime(), spools[-1], Tracer("bench", None), Lookups("nowhere:1", Path(folder)))

        yield make
        for spool in spools:
            spool.close()


def _board(models: int, onnx: bytes, arms: tuple[Arm, ...] = ()) -> Board:
    """Return a board with so many models that each have a session of their own."""
    board = Board()
    for name in [*map(str, range(models)), *(arm.onnx for arm in arms)]:
        board.load(name, Model(onnx, WIDTH))
    board.swap([_activation(str(number), arms) for number in range(models)])
    return board


def _activation(name: str, arms: tuple[Arm, ...] = ()) -> Activation:
    return Activation(f"d{name}", f"m{name}", 1, name, "set", "sha256:f", ("x",) * WIDTH, 0, {}, arms)


def _work(answers: Answers, x: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> Work:
    """Return the work of answering turns of calls of the first model, one row each."""
    turn = [Question("m0", None, f"q{at}", "http", x[at : at + 1], f"tail {at}") for at in range(CALLS)]

    def work() -> None:
        for _ in range(TURNS):
            answers.answer_all(turn)

    return work, TURNS * CALLS


def _switching(board: Board) -> Work:
    """Return the work of putting other versions into force."""
    activations = board.all()

    def work() -> None:
        for _ in range(SWITCHES):
            board.swap(activations)

    return work, SWITCHES


async def _main() -> list[Outcome]:
    return measure()


if __name__ == "__main__":
    os.sched_setaffinity(0, OWN)
    print(json.dumps([outcome.document() for outcome in asyncio.run(_main())]))
