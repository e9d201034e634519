"""Training: a whole run, from reading the log to the exported model, against the fit alone."""

import io
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq
from sklearn.ensemble import HistGradientBoostingClassifier
from tests.bench.clock import RUNS, Figure, Stopwatch, spend
from tests.bench.stage import MODEL, Stage
from threadpoolctl import threadpool_limits

from mainstem.events.envelope import begin
from mainstem.events.training import TrainingRequested
from mainstem.testkit.examples import example
from mainstem.training.domain import PLAN, StepResult, outputs
from mainstem.training.history.datasets import Builder
from mainstem.training.history.reading import Reading
from mainstem.training.ports import Run
from mainstem.training.steps import Steps

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Trained:
    """What a run left: addresses of model and profile, and the rows it was made of."""

    onnx: str
    profile: str
    x: Floats
    y: npt.NDArray[np.int64]
    held_out: npt.NDArray[np.bool_]


async def training(stage: Stage) -> tuple[Figure, Trained]:
    """Do the same run again and again, each time from an empty memory."""
    figure = Figure("training", "a row, from the log to the exported model", "Kafka")
    shares: dict[str, float] = {}
    trained = await train_once(stage)
    count = len(trained.y)
    for _ in range(RUNS):
        watch = Stopwatch()
        await _run(stage, shares)
        figure.add(watch.each(count), {"the fit of scikit-learn": spend(lambda: _fit(stage, trained), count)})
    steps = ", ".join(f"{step} {part / sum(shares.values()):.0%}" for step, part in shares.items())
    figure.note = f"{count:,} rows: {steps}"
    return figure, trained


async def train_once(stage: Stage) -> Trained:
    """Do one run; return what it left."""
    return _trained(stage, outputs(await _run(stage, {})))


async def _run(stage: Stage, shares: dict[str, float]) -> list[StepResult]:
    """Do all steps of a run; add to `shares` what each took."""
    steps, results = Steps(stage.artifacts, Builder(stage.artifacts, Reading(stage.kafka))), list[StepResult]()
    asked = begin(example(TrainingRequested), command_id="bench", source="/bench", actor="bench", recorded_us=0)
    run = Run("bench", MODEL, "flights", stage.played_us, "request", "bench", asked.envelope, ())
    for step in PLAN:
        watch = Stopwatch()
        results.append(await steps.do(step, replace(run, completed=tuple(results)), stage.definition, None))
        shares[step] = shares.get(step, 0.0) + watch.each(1).cpu_us
    return results


def _trained(stage: Stage, left: dict[str, str]) -> Trained:
    table = pq.read_table(io.BytesIO(stage.artifacts.get(left["table"])))
    columns = [name for name in table.column_names if name.startswith("x")]
    x = np.column_stack([table[name].to_numpy() for name in columns])
    return Trained(left["onnx"], left["profile"], x, table["y"].to_numpy(), table["held_out"].to_numpy())


def _fit(stage: Stage, data: Trained) -> None:
    model = stage.definition.models[MODEL]
    estimator = HistGradientBoostingClassifier(
        **{"early_stopping": False, **model.estimator.params}, random_state=model.seed
    )
    with threadpool_limits(limits=1):
        estimator.fit(data.x[~data.held_out], data.y[~data.held_out])
