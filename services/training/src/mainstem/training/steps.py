"""What each step of a run computes: content addresses in, content addresses and figures out."""

import asyncio
import json
import sys
from dataclasses import asdict
from importlib.metadata import version
from importlib.resources import files
from typing import Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingClassifier

from mainstem.events.ids import content_id
from mainstem.intake import admit
from mainstem.project.definition import ProjectDefinition
from mainstem.project.model import ModelDefinition
from mainstem.storage import Artifacts
from mainstem.training import engine
from mainstem.training.domain import Step, StepResult, code_digest, digest, outputs
from mainstem.training.engine import Floats, Ints
from mainstem.training.history.datasets import Builder
from mainstem.training.history.table import features, from_parquet
from mainstem.training.imports import agreement, bring_in, check_probabilities
from mainstem.training.onnx_export import parity, probabilities, scores, to_onnx
from mainstem.training.ports import Incumbent, Run

_PACKAGES: Final = ("numpy", "scipy", "scikit-learn", "onnx", "onnxruntime", "pyarrow")

#: What each step reads of what the steps before it wrote, and the model that is imported, if one is.
_READS: Final[dict[Step, tuple[str, ...]]] = {
    Step.SNAPSHOT: (),
    Step.FIT: ("dataset", "imported"),
    Step.EVALUATE: ("dataset", "onnx"),
    Step.EXPORT: ("dataset", "onnx", "imported"),
}

#: Content addresses by name, and figures.
Outputs = tuple[dict[str, str], dict[str, object]]


class Steps:
    """Does the steps of runs, one at a time."""

    def __init__(self, artifacts: Artifacts, builder: Builder) -> None:
        self._artifacts = artifacts
        self._builder = builder
        self._code = code_digest(_sources())
        self._environment = digest({"python": sys.version, **{name: version(name) for name in _PACKAGES}})
        #: The estimator of the run in hand: artifacts hold no pickles, so a run that is resumed fits it again.
        self._fitted: dict[str, HistGradientBoostingClassifier] = {}

    async def do(self, step: Step, run: Run, definition: ProjectDefinition, incumbent: Incumbent | None) -> StepResult:
        """Do one step of a run whose earlier steps are done; raises ValueError when it cannot be done."""
        before = outputs(run.completed) | ({"imported": run.imported} if run.imported else {})
        out, figures = await self._work(step, run, definition, incumbent, before)
        inputs = {name: before[name] for name in _READS[step] if name in before}
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
                return await self._snapshot(run, definition)
            case Step.FIT:
                if run.imported is not None:
                    return await asyncio.to_thread(self._import, before)
                return await asyncio.to_thread(self._fit, run, model, before)
            case Step.EVALUATE:
                before |= await self._incumbents_table(run, definition, incumbent)
                return await asyncio.to_thread(self._evaluate, definition, model, incumbent, before)
            case Step.EXPORT:
                if run.imported is not None:
                    return await asyncio.to_thread(self._compare, before)
                return await asyncio.to_thread(self._export, run, model, before)

    async def _snapshot(self, run: Run, definition: ProjectDefinition) -> Outputs:
        """Freeze the dataset: rows and labels known at the cut, with the positions they come from."""
        built = await self._builder.build(definition, run.model, run.cut_us, lambda _read, _there: None)
        held = built.manifest
        figures: dict[str, object] = {"rows": held.rows, "held_out": held.held_out, "unlabelled": held.unlabelled}
        return {"dataset": built.dataset, "table": built.table}, figures

    def _fit(self, run: Run, model: ModelDefinition, before: dict[str, str]) -> Outputs:
        x, y, _, held_out = self._table(before)
        self._fitted = {run.run: engine.fit(x[~held_out], y[~held_out], model.estimator.params, model.seed)}
        exported = to_onnx(self._fitted[run.run])
        admit(exported)
        return {"onnx": self._artifacts.put(exported)}, {"rows": int((~held_out).sum())}

    def _import(self, before: dict[str, str]) -> Outputs:
        """Give a model made elsewhere the signature of ours; it must give probabilities for held-out rows."""
        x, _, _, held_out = self._table(before)
        brought = bring_in(self._artifacts.get(before["imported"]), x.shape[1])
        check_probabilities(probabilities(brought.onnx, x[held_out]))
        said = {name: getattr(brought.admitted, name) for name in ("operators", "opsets", "metadata")}
        figures = {"onnx": before["imported"], "takes": brought.takes, **said}
        return {"onnx": self._artifacts.put(brought.onnx)}, {"imported": figures}

    def _compare(self, before: dict[str, str]) -> Outputs:
        """Hold the imported model against the author's file."""
        x, _, _, held_out = self._table(before)
        original = self._artifacts.get(before["imported"])
        brought = bring_in(original, x.shape[1])
        if content_id(brought.onnx) != before["onnx"]:
            raise ValueError("the same file gave another model; the environment has changed, import it anew")
        found = agreement(original, brought, x[held_out])
        return {}, {"parity": asdict(found)}

    async def _incumbents_table(
        self, run: Run, definition: ProjectDefinition, incumbent: Incumbent | None
    ) -> dict[str, str]:
        """Return where the rows of the run lie as the incumbent reads them, if that is in another feature set."""
        model = definition.models[run.model]
        if incumbent is None or incumbent.feature_set == definition.feature_sets[model.feature_set].id:
            return {}
        labels = [label for label, part in definition.feature_sets.items() if part.id == incumbent.feature_set]
        if not labels:
            found = f"version {incumbent.version} reads feature set {incumbent.feature_set}, which is not declared"
            raise ValueError(f"{found}; it cannot be compared with, declare it beside the other")
        other = model.model_copy(update={"feature_set": labels[0]})
        as_read = definition.model_copy(update={"models": {**definition.models, run.model: other}})
        built = await self._builder.build(as_read, run.model, run.cut_us, lambda _read, _there: None)
        return {"incumbents_table": built.table}

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
            if "incumbents_table" in before:
                x = self._rows_of(before["incumbents_table"], like=before["table"])[held_out]
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

    def _rows_of(self, table: str, *, like: str) -> Floats:
        """Return the features in a table in the order of the same records in another one, maybe of another set."""
        wanted, found = (from_parquet(self._artifacts.get(address)) for address in (like, table))
        (records, places), (others, rows) = _by_record(wanted), _by_record(found)
        if records != others:
            raise ValueError(f"{table} and {like} hold rows of other records; sets that are compared need one spine")
        x = features(found)
        ordered = np.empty_like(x)
        ordered[places] = x[rows]
        return ordered

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
        table = from_parquet(self._artifacts.get(before["table"]))
        if missing := {"spine_id", "recorded_time", "y", "held_out"} - set(table.column_names):
            raise ValueError(
                f"{before['table']} has no {', '.join(sorted(missing))}: an earlier release wrote it; run anew"
            )
        recorded_us = table["recorded_time"].cast("int64").to_numpy()
        return features(table), table["y"].to_numpy(), recorded_us, table["held_out"].to_numpy()


def _by_record(table: pa.Table) -> tuple[list[str], list[int]]:
    """Return the ids of the spine records, sorted, and the row of each.

    Records to which their source gave one id stay as they stand in the table, which is the same in every set.
    """
    records: list[str] = table["spine_id"].to_pylist()
    rows = sorted(range(len(records)), key=records.__getitem__)
    return [records[row] for row in rows], rows


def _json(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def _sources() -> dict[str, bytes]:
    return {
        f"{package}.{entry.name}": entry.read_bytes()
        for package in ("mainstem.training", "mainstem.training.history")
        for entry in files(package).iterdir()
        if entry.name.endswith(".py")
    }
