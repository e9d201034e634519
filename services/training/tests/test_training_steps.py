"""A step reads what the steps before it wrote, and says so when it cannot."""

import io
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from services.training.tests.training_log import CUT

from mainstem.events.envelope import begin
from mainstem.events.training import TrainingRequested
from mainstem.storage import Artifacts
from mainstem.testkit.examples import example
from mainstem.testkit.projects import storms
from mainstem.training.domain import Step, StepResult
from mainstem.training.history.datasets import Builder
from mainstem.training.history.reading import Reading
from mainstem.training.ports import Run
from mainstem.training.steps import Steps


async def test_a_table_that_an_earlier_release_wrote_is_refused(tmp_path: Path) -> None:
    out = io.BytesIO()
    pq.write_table(pa.table({"x000": [1.0], "y": [1], "held_out": [False], "recorded_us": [CUT]}), out)
    artifacts = Artifacts(tmp_path)
    table = artifacts.put(out.getvalue())
    snapshot = StepResult(Step.SNAPSHOT, {}, {"dataset": "sha256:d", "table": table}, "sha256:c", "sha256:e")
    asked = begin(example(TrainingRequested), command_id="run", source="/test", actor="ann", recorded_us=CUT)
    run = Run("run", "storm", "weather", CUT, "request", "ann", asked.envelope, (snapshot,))
    steps = Steps(artifacts, Builder(artifacts, Reading("127.0.0.1:9")))
    with pytest.raises(ValueError, match=f"{table} has no recorded_time: an earlier release wrote it; run anew"):
        await steps.do(Step.FIT, run, storms(), None)
