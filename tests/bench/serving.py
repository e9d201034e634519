"""Serving's stream: feature rows are scored by the version in effect and published, against bare onnxruntime."""

from collections.abc import Callable

import onnxruntime
from tests.bench.clock import Figure
from tests.bench.stage import FEATURES, MODEL, ON_SERVERS, Stage, Turn
from tests.bench.training import Trained

from mainstem.events.fence import Fence
from mainstem.serving.board import Board
from mainstem.serving.domain import Activation, LogTime
from mainstem.serving.engine import CHUNK, INPUT, OUTPUT, Model
from mainstem.serving.handlers import Stream
from mainstem.serving.loader import Loader
from mainstem.serving.store import PostgresStore


async def serving(stage: Stage, trained: Trained) -> Turn:
    """Set the service up, with a version that answers every row."""
    store = PostgresStore(await stage.database("serving", "mainstem.serving"))
    compiled, board = stage.definition.feature_sets[FEATURES].compiled, Board()
    names = tuple(compiled.names)
    activation = Activation("bench", MODEL, 1, trained.onnx, FEATURES, compiled.id, names, 0, {})
    board.readers = {activation.topic: [MODEL]}
    board.swap([activation])
    board.load(trained.onnx, Model(stage.artifacts.get(trained.onnx), len(names)))
    stream = Stream(board, Loader(stage.artifacts, board, store.record_loss), Fence(), LogTime(), stage.tracer)
    return Turn(
        Figure("serving", "a row scored and published", ON_SERVERS),
        [activation.topic],
        lambda records: stream.on_records(records, publisher=stage.bus.publisher),
        lambda: stream.checkpoint(store),
    )


def bare_session(stage: Stage, trained: Trained) -> Callable[..., None]:
    """Return what runs the model on all rows of the training, so many at a time, with nothing around it."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        stage.artifacts.get(trained.onnx), options, providers=["CPUExecutionProvider"]
    )

    def run(at_once: int = CHUNK) -> None:
        for at in range(0, len(trained.x), at_once):
            session.run([OUTPUT], {INPUT: trained.x[at : at + at_once]})

    return run
