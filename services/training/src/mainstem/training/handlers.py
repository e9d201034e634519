"""Requests in; datasets built, and runs performed step by step, each step recorded before the next begins."""

from collections.abc import Awaitable
from typing import Final

from mainstem.events.envelope import Event, follow
from mainstem.events.errors import MainstemError, Rejected, Unavailable
from mainstem.events.fact import Fact
from mainstem.events.ids import child_id
from mainstem.events.monitoring import RetrainingAsked
from mainstem.events.training import (
    DatasetBuilt,
    DatasetFailed,
    RunCompleted,
    RunFailed,
    StepCompleted,
    TrainingRequested,
)
from mainstem.project.definition import ProjectDefinition
from mainstem.storage import Artifacts
from mainstem.telemetry import logger
from mainstem.training.domain import Step, StepResult, next_step, outputs
from mainstem.training.history.datasets import Builder, ReadDataset, read_manifest
from mainstem.training.ports import Asked, NotReached, Run, Store
from mainstem.training.steps import Steps

SOURCE: Final = "/mainstem/training"

_log = logger(__name__)


def requested_by_alert(event: Event) -> Event | None:
    """Return the request for a run that an alert's response leads to, or None for any other event."""
    if not isinstance(event.fact, RetrainingAsked):
        return None
    fact = event.fact
    request = TrainingRequested(
        run=child_id(event.envelope.id, "run")[:16],
        model=fact.model,
        project=fact.project,
        cut=fact.cut,
        cause=fact.kind,
        requested_by="monitoring",
    )
    return follow(event.envelope, request, source=SOURCE)


class Performer:
    """Builds datasets and performs runs, one at a time. A run that was killed goes on after its last recorded step."""

    def __init__(self, store: Store, artifacts: Artifacts, read: ReadDataset) -> None:
        #: What runs and requests wait for, by their id.
        self.waiting: dict[str, str] = {}
        #: How many records were read for the request in hand, and how many there are.
        self.progress: dict[str, tuple[int, int]] = {}
        self._passed_over: set[str] = set()
        self._store = store
        self._artifacts = artifacts
        self._builder = Builder(artifacts, read)
        self._steps = Steps(artifacts, self._builder)

    async def advance(self) -> bool:
        """Build the dataset asked for with the earliest cut, or do the next step of the run with the earliest.

        False when there is nothing to do, or all have to wait. What the log has not reached lets the others pass, and
        is looked at again when all had their turn.
        """
        asked = await self._store.next_request(self._passed_over)
        if asked is not None:
            await self._try(asked.request, self.build(asked))
            return True
        run = await self._store.next_run(self._passed_over)
        if run is not None:
            await self._try(run.run, self.perform(run))
            return True
        self._passed_over.clear()
        return False

    async def _try(self, name: str, work: Awaitable[None]) -> None:
        try:
            await work
        except NotReached as fault:
            self.waiting[name] = str(fault)
            self._passed_over.add(name)
        else:
            self.waiting.pop(name, None)
        finally:
            self.progress.pop(name, None)

    async def build(self, asked: Asked) -> None:
        """Build a dataset and record it; by the definition that was in force when it was asked for."""

        def told(read: int, there: int) -> None:
            self.progress[asked.request] = (read, there)

        fact: Fact
        try:
            definition = await self._store.definition_by_id(asked.definition)
            built = await self._builder.build(definition, asked.model, asked.cut_us, told)
        except Unavailable:
            raise
        except (ValueError, MainstemError) as fault:
            _log.exception("no dataset", extra={"action": "dataset_failed", "request": asked.request})
            fact = DatasetFailed(request=asked.request, model=asked.model, reason=str(fault))
        else:
            fact = self._built(asked.request, asked.requested_by, built.dataset, built.table)
        _log.info("recorded", extra={"action": "dataset", "request": asked.request, "fact": fact.TYPE})
        await self._store.record([follow(asked.envelope, fact, source=SOURCE)])

    def _built(self, request: str, requested_by: str, dataset: str, table: str) -> DatasetBuilt:
        manifest = read_manifest(self._artifacts, dataset)
        said = ("model", "project", "definition", "cut", "rows", "held_out", "unlabelled", "content")
        return DatasetBuilt(
            dataset=dataset,
            table=table,
            request=request,
            requested_by=requested_by,
            feature_set=manifest["feature_set"]["id"],
            feature_set_label=manifest["feature_set"]["label"],
            **{name: manifest[name] for name in said},
        )

    async def perform(self, run: Run) -> None:
        """Do the next step of a run and record it; after the last one, record the run's end."""
        step: Step | None = None
        try:
            step = next_step(run.completed)
            definition = await self._definition(run)
            model = definition.models.get(run.model)
            if model is None:
                raise Rejected(f"project {run.project!r} declares no model {run.model!r} any more; ask for another run")
            incumbent = await self._store.incumbent(run.model)
            if step is None:
                await self._complete(run, definition.id, definition.feature_sets[model.feature_set].id)
                return
            result = await self._steps.do(step, run, definition, incumbent)
        except Unavailable:
            raise
        except (ValueError, MainstemError) as fault:
            _log.exception("run failed", extra={"action": "run_failed", "run": run.run, "step": step})
            fact = RunFailed(run=run.run, model=run.model, step=str(step), reason=str(fault))
            await self._record(run, "failed", fact)
            return
        facts: list[Fact] = [_completed(run, result)]
        if result.step is Step.SNAPSHOT:
            facts.append(self._built(run.run, run.requested_by, result.outputs["dataset"], result.outputs["table"]))
        await self._record(run, result.step, *facts)

    async def _definition(self, run: Run) -> ProjectDefinition:
        """Return what a run goes by: the definition that its dataset was built by, before that the one in force.

        A project that is applied meanwhile may let the model read another feature set than that of the dataset.
        """
        dataset = outputs(run.completed).get("dataset")
        if dataset is None:
            return await self._store.definition(run.project)
        return await self._store.definition_by_id(str(read_manifest(self._artifacts, dataset).get("definition")))

    async def _complete(self, run: Run, definition: str, feature_set: str) -> None:
        by_step = {result.step: result for result in run.completed}
        told = [Step.EVALUATE, Step.EXPORT, Step.SNAPSHOT, *([Step.FIT] if run.imported else [])]
        evidence = {name: figure for step in told for name, figure in by_step[step].figures.items()}
        out = outputs(run.completed)
        fact = RunCompleted(
            run=run.run,
            model=run.model,
            project=run.project,
            cause=run.cause,
            requested_by=run.requested_by,
            definition=definition,
            feature_set=feature_set,
            dataset=out["dataset"],
            onnx=out["onnx"],
            profile=out["profile"],
            evidence=evidence,
        )
        await self._record(run, "completed", fact)

    async def _record(self, run: Run, name: str, *facts: Fact) -> None:
        _log.info("recorded", extra={"action": "run_step", "run": run.run, "step": name})
        await self._store.record([follow(run.request, fact, source=SOURCE, name=name) for fact in facts])


def _completed(run: Run, result: StepResult) -> StepCompleted:
    return StepCompleted(
        run=run.run,
        model=run.model,
        step=result.step.value,
        inputs=dict(result.inputs),
        outputs=dict(result.outputs),
        figures=dict(result.figures),
        code=result.code,
        environment=result.environment,
    )
