"""A step reads what the steps before it wrote, and says so when it cannot."""

import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from services.training.tests.imported_models import classifier
from services.training.tests.training_log import CUT

from mainstem.events.envelope import begin
from mainstem.events.training import TrainingRequested
from mainstem.feature_engine import feature_set
from mainstem.intake import Refused
from mainstem.project import ModelDefinition, ProjectDefinition
from mainstem.storage import Artifacts
from mainstem.testkit.examples import example
from mainstem.testkit.projects import storms
from mainstem.training.domain import PLAN, Positions, Ranges, Step, StepResult
from mainstem.training.history.datasets import Builder
from mainstem.training.history.log import Dataset
from mainstem.training.history.reading import Reading
from mainstem.training.ports import Incumbent, Run, Told
from mainstem.training.steps import Steps

ROWS = 2_000
WIND, OTHER, LUCK = np.random.default_rng(3).normal(size=(3, ROWS))
TRUTH = (WIND + LUCK > 0).astype(np.int64)


def side_by_side() -> ProjectDefinition:
    """Return the storms with a second version of their set, of two features, which the model reads."""
    document = json.loads(storms().canonical())
    spine = storms().sources["reading"].stream()
    features = type("Gusts", (), {"wind": spine.wind, "mean": spine.by("sensor").mean("wind", "1h")})
    compiled = feature_set("gusts", spine=spine, lateness="1h", version=2)(features).compile()
    document["feature_sets"]["gusts.v2"] = {"id": compiled.id, "spec": compiled.spec}
    document["models"]["storm"]["feature_set"] = "gusts.v2"
    return ProjectDefinition.model_validate(document)


async def read(definition: ProjectDefinition, model: ModelDefinition, ranges: Ranges, told: Told) -> Dataset:
    """Return the rows of the same gusts in either set: in the second with one feature more, and in another order.

    Always two gusts hit one sensor at once; the ids of the rows, which are each set's own, do not tell which is which.
    """
    second = model.feature_set == "gusts.v2"
    order = np.random.default_rng(5).permutation(ROWS) if second else np.arange(ROWS)
    times = np.linspace(ranges.fit.start_us, ranges.evaluation.end_us - 1, ROWS // 2).astype(np.int64).repeat(2)
    x = np.column_stack([OTHER, WIND] if second else [WIND])
    return Dataset(
        ids=[f"{ROWS - row if second else row:04}" for row in order.tolist()],
        spine_ids=[f"gust {row}" for row in order.tolist()],
        entities=[f"sensor {row // 2}" for row in order.tolist()],
        recorded_us=times[order],
        time_us=times[order],
        x=x[order],
        y=TRUTH[order],
        unlabelled=0,
        positions=Positions("cluster", {}),
    )


async def evaluated(
    artifacts: Artifacts,
    definition: ProjectDefinition,
    incumbent: Incumbent | None,
    imported: str | None = None,
    upto: Step = Step.EVALUATE,
) -> Run:
    """Return a run up to a step."""
    asked = begin(example(TrainingRequested), command_id="run", source="/test", actor="ann", recorded_us=CUT)
    run = Run("run", "storm", "weather", CUT, "request", "ann", asked.envelope, (), imported)
    steps = Steps(artifacts, Builder(artifacts, read))
    for step in PLAN[: PLAN.index(upto) + 1]:
        result = await steps.do(step, run, definition, incumbent)
        run = replace(run, completed=(*run.completed, result))
    return run


async def test_an_incumbent_on_another_feature_set_is_compared_on_its_own_rows_of_the_same_records(
    tmp_path: Path,
) -> None:
    artifacts = Artifacts(tmp_path)
    alone = await evaluated(artifacts, storms(), None)
    onnx, reads = alone.completed[1].outputs["onnx"], storms().feature_sets["gusts"].id
    run = await evaluated(artifacts, side_by_side(), Incumbent(1, onnx, reads))
    before, now = alone.completed[2].figures["evaluation"], run.completed[2].figures
    assert isinstance(before, dict)
    assert isinstance(evaluation := now["evaluation"], dict)
    assert isinstance(compared := now["incumbent"], dict)
    assert compared["difference"] == pytest.approx(evaluation["auc"] - before["auc"], abs=1e-12)


async def test_a_model_made_elsewhere_takes_the_steps_of_a_fitted_one(tmp_path: Path) -> None:
    artifacts = Artifacts(tmp_path)
    file = artifacts.put(classifier())
    _, brought, judged, compared = (await evaluated(artifacts, storms(), None, file, Step.EXPORT)).completed
    assert brought.inputs["imported"] == compared.inputs["imported"] == file
    assert isinstance(said := brought.figures["imported"], dict)
    assert (said["onnx"], said["takes"]) == (file, "FLOAT")
    assert brought.outputs["onnx"] != file
    assert judged.outputs.keys() == {"profile"}
    assert isinstance(evaluation := judged.figures["evaluation"], dict)
    assert evaluation["auc"] > 0.7
    assert isinstance(parity := compared.figures["parity"], dict)
    assert (parity["flips"], parity["rows"] > 100) == (0, True)


async def test_a_fitted_model_can_be_held_against_one_that_was_imported(tmp_path: Path) -> None:
    artifacts = Artifacts(tmp_path)
    brought = await evaluated(artifacts, storms(), None, artifacts.put(classifier()))
    incumbent = Incumbent(1, brought.completed[1].outputs["onnx"], storms().feature_sets["gusts"].id)
    run = await evaluated(artifacts, storms(), incumbent)
    assert isinstance(compared := run.completed[2].figures["incumbent"], dict)
    assert abs(compared["difference"]) < 0.1


async def test_a_file_of_another_width_fails_the_step(tmp_path: Path) -> None:
    artifacts = Artifacts(tmp_path)
    with pytest.raises(Refused, match=r"a model of this feature set takes one FLOAT or DOUBLE \[rows, 1\]"):
        await evaluated(artifacts, storms(), None, artifacts.put(classifier(2)))


async def test_an_incumbent_whose_feature_set_is_gone_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="version 1 reads feature set sha256:old, which is not declared"):
        await evaluated(Artifacts(tmp_path), storms(), Incumbent(1, "sha256:onnx", "sha256:old"))


async def test_a_table_that_an_earlier_release_wrote_is_refused(tmp_path: Path) -> None:
    out = io.BytesIO()
    pq.write_table(pa.table({"x000": [1.0], "y": [1], "held_out": [False], "recorded_us": [CUT]}), out)
    artifacts = Artifacts(tmp_path)
    table = artifacts.put(out.getvalue())
    snapshot = StepResult(Step.SNAPSHOT, {}, {"dataset": "sha256:d", "table": table}, "sha256:c", "sha256:e")
    asked = begin(example(TrainingRequested), command_id="run", source="/test", actor="ann", recorded_us=CUT)
    run = Run("run", "storm", "weather", CUT, "request", "ann", asked.envelope, (snapshot,))
    steps = Steps(artifacts, Builder(artifacts, Reading("127.0.0.1:9")))
    with pytest.raises(
        ValueError, match=f"{table} has no recorded_time, spine_id: an earlier release wrote it; run anew"
    ):
        await steps.do(Step.FIT, run, storms(), None)
