"""Requests in; runs performed step by step, each step recorded before the next begins."""

from typing import Final

from mainstem.events.envelope import Event, Fact, follow
from mainstem.events.errors import MainstemError, Rejected, Unavailable
from mainstem.events.ids import child_id
from mainstem.events.monitoring import RetrainingAsked
from mainstem.events.training import RunCompleted, RunFailed, StepCompleted, TrainingRequested
from mainstem.storage import Artifacts
from mainstem.telemetry import logger
from mainstem.training.domain import Step, StepResult, next_step, outputs
from mainstem.training.ports import NotReached, Run, Store
from mainstem.training.steps import ReadDataset, Steps

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
    """Performs runs one at a time. A run that was killed goes on after its last recorded step."""

    def __init__(self, store: Store, artifacts: Artifacts, read: ReadDataset) -> None:
        #: What runs wait for, by run.
        self.waiting: dict[str, str] = {}
        self._passed_over: set[str] = set()
        self._store = store
        self._steps = Steps(artifacts, read)

    async def advance(self) -> bool:
        """Do the next step of the run with the earliest cut; False when there is none, or all have to wait.

        A run whose cut the log has not reached lets the others pass, and is looked at again when all had their turn.
        """
        run = await self._store.next_run(self._passed_over)
        if run is None:
            self._passed_over.clear()
            return False
        try:
            await self.perform(run)
        except NotReached as fault:
            self.waiting[run.run] = str(fault)
            self._passed_over.add(run.run)
        else:
            self.waiting.pop(run.run, None)
        return True

    async def perform(self, run: Run) -> None:
        """Do the next step of a run and record it; after the last one, record the run's end."""
        step: Step | None = None
        try:
            step = next_step(run.completed)
            definition = await self._store.definition(run.project)
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
            await self._record(run, fact, "failed")
            return
        await self._record(run, _completed(run, result), result.step)

    async def _complete(self, run: Run, definition: str, feature_set: str) -> None:
        by_step = {result.step: result for result in run.completed}
        evidence = {**by_step[Step.EVALUATE].figures, **by_step[Step.EXPORT].figures, **by_step[Step.SNAPSHOT].figures}
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
        await self._record(run, fact, "completed")

    async def _record(self, run: Run, fact: Fact, name: str) -> None:
        _log.info("recorded", extra={"action": "run_step", "run": run.run, "step": name})
        await self._store.record([follow(run.request, fact, source=SOURCE, name=name)])


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
