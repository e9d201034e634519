"""What each step of a run computes: content addresses in, content addresses and figures out."""

import asyncio
import hashlib
import io
import json
import sys
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from importlib.metadata import version
from importlib.resources import files
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingClassifier

from mainstem.events.ids import content_id
from mainstem.events.instants import render
from mainstem.project.definition import ProjectDefinition
from mainstem.project.model import ModelDefinition
from mainstem.storage import Artifacts
from mainstem.training import engine
from mainstem.training.domain import Ranges, Step, StepResult, code_digest, digest, outputs
from mainstem.training.engine import Floats, Ints
from mainstem.training.history import Dataset
from mainstem.training.onnx_export import parity, scores, to_onnx
from mainstem.training.ports import Incumbent, Run

_PACKAGES: Final = ("numpy", "scipy", "scikit-learn", "onnx", "onnxruntime", "pyarrow")

#: What each step reads of what the steps before it wrote.
_READS: Final[dict[Step, tuple[str, ...]]] = {
    Step.SNAPSHOT: (),
    Step.FIT: ("dataset",),
    Step.EVALUATE: ("dataset", "onnx"),
    Step.EXPORT: ("dataset", "onnx"),
}

#: Content addresses by name, and figures.
Outputs = tuple[dict[str, str], dict[str, object]]

#: Reads the log up to the cut of a run and returns its dataset; what it reads is its own business.
ReadDataset = Callable[[Run, ModelDefinition, Ranges], Awaitable[Dataset]]


class Steps:
    """Does the steps of runs, one at a time."""

    def __init__(self, artifacts: Artifacts, read: ReadDataset) -> None:
        self._artifacts = artifacts
        self._read = read
        self._code = code_digest(_sources())
        self._environment = digest({"python": sys.version, **{name: version(name) for name in _PACKAGES}})
        #: The estimator of the run in hand: artifacts hold no pickles, so a run that is resumed fits it again.
        self._fitted: dict[str, HistGradientBoostingClassifier] = {}

    async def do(self, step: Step, run: Run, definition: ProjectDefinition, incumbent: Incumbent | None) -> StepResult:
        """Do one step of a run whose earlier steps are done; raises ValueError when it cannot be done."""
        before = outputs(run.completed)
        out, figures = await self._work(step, run, definition, incumbent, before)
        inputs = {name: before[name] for name in _READS[step]}
        return StepResult(step, inputs, out, self._code, self._environment, figures)

    async def _work(
        self,
        step: Step,
        run: Run,
        definition: ProjectDefinition,
        incumbent: Incumbent | None,
        before: dict[str, str],
    ) -> Outputs:
        model = definition.models[run.model]
        match step:
            case Step.SNAPSHOT:
                return await self._snapshot(run, model)
            case Step.FIT:
                return await asyncio.to_thread(self._fit, run, model, before)
            case Step.EVALUATE:
                return await asyncio.to_thread(self._evaluate, definition, model, incumbent, before)
            case Step.EXPORT:
                return await asyncio.to_thread(self._export, run, model, before)

    async def _snapshot(self, run: Run, model: ModelDefinition) -> Outputs:
        """Freeze the dataset: rows and labels known at the cut, with the positions they come from."""
        ranges = Ranges.at(run.cut_us, model.training_window, model.evaluation_window)
        dataset = await self._read(run, model, ranges)
        table = self._artifacts.put(_parquet(dataset, ranges))
        held_out = int((dataset.recorded_us >= ranges.evaluation.start_us).sum())
        figures: dict[str, object] = {"rows": len(dataset.y), "held_out": held_out, "unlabelled": dataset.unlabelled}
        manifest = {
            "model": run.model,
            "cut": render(run.cut_us),
            "fit": [render(ranges.fit.start_us), render(ranges.fit.end_us)],
            "evaluation": [render(ranges.evaluation.start_us), render(ranges.evaluation.end_us)],
            "positions": dataset.positions,
            "content": _logical(dataset),
            "table": table,
            **figures,
        }
        return {"dataset": self._artifacts.put(_json(manifest)), "table": table}, figures

    def _fit(self, run: Run, model: ModelDefinition, before: dict[str, str]) -> Outputs:
        x, y, _, held_out = self._table(before)
        self._fitted = {run.run: engine.fit(x[~held_out], y[~held_out], model.estimator.params, model.seed)}
        return {"onnx": self._artifacts.put(to_onnx(self._fitted[run.run]))}, {"rows": int((~held_out).sum())}

    def _evaluate(
        self, definition: ProjectDefinition, model: ModelDefinition, incumbent: Incumbent | None, before: dict[str, str]
    ) -> Outputs:
        x, y, recorded_us, held_out = self._table(before)
        x, y, recorded_us = x[held_out], y[held_out], recorded_us[held_out]
        p = scores(self._artifacts.get(before["onnx"]), x)
        chunks = engine.chunk_ids(recorded_us)
        names = definition.feature_sets[model.feature_set].compiled.names
        profile = self._artifacts.put(_json(engine.reference_profile(x, p, y, chunks, names)))
        figures: dict[str, object] = {"evaluation": asdict(engine.evaluate(y, p)), "incumbent": None}
        if incumbent is not None:
            p_old = scores(self._artifacts.get(incumbent.onnx), x)
            paired = engine.delong_paired(y, p, p_old, model.gates.confidence)
            figures["incumbent"] = {
                "version": incumbent.version,
                "onnx": incumbent.onnx,
                "rows": len(y),
                "confidence": model.gates.confidence,
                **paired._asdict(),
            }
        return {"profile": profile}, figures

    def _export(self, run: Run, model: ModelDefinition, before: dict[str, str]) -> Outputs:
        """Hold the exported model against the estimator; fit that again when the process is another one."""
        x, y, _, held_out = self._table(before)
        estimator = self._fitted.get(run.run)
        if estimator is None:
            estimator = engine.fit(x[~held_out], y[~held_out], model.estimator.params, model.seed)
            if content_id(to_onnx(estimator)) != before["onnx"]:
                raise ValueError("the same data and parameters gave another model; the environment has changed")
        found = parity(estimator, self._artifacts.get(before["onnx"]), x[held_out])
        self._fitted = {}
        return {}, {"parity": asdict(found)}

    def _table(self, before: dict[str, str]) -> tuple[Floats, Ints, Ints, NDArray[np.bool_]]:
        """Return features, labels, recorded times and which rows are held out."""
        table = pq.read_table(io.BytesIO(self._artifacts.get(before["table"])))
        columns = [name for name in table.column_names if name.startswith("x")]
        x = np.column_stack([table[name].to_numpy() for name in columns])
        return x, table["y"].to_numpy(), table["recorded_us"].to_numpy(), table["held_out"].to_numpy()


def _parquet(dataset: Dataset, ranges: Ranges) -> bytes:
    columns = {
        "id": dataset.ids,
        "entity": dataset.entities,
        "recorded_us": dataset.recorded_us,
        "time_us": dataset.time_us,
        **{f"x{number:03d}": dataset.x[:, number] for number in range(dataset.x.shape[1])},
        "y": dataset.y,
        "held_out": dataset.recorded_us >= ranges.evaluation.start_us,
    }
    out = io.BytesIO()
    pq.write_table(pa.table(columns), out, compression="zstd")
    return out.getvalue()


def _logical(dataset: Dataset) -> str:
    """Return a digest of what the dataset says, whatever file format or library wrote it."""
    state = hashlib.sha256("\n".join(dataset.ids).encode())
    for array in (dataset.recorded_us, dataset.time_us, dataset.x, dataset.y):
        state.update(np.ascontiguousarray(array).tobytes())
    return f"sha256:{state.hexdigest()}"


def _json(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def _sources() -> dict[str, bytes]:
    folder = files("mainstem.training")
    return {entry.name: entry.read_bytes() for entry in folder.iterdir() if entry.name.endswith(".py")}
