"""OpenLineage: runs of training and of datasets, their steps and gates, and the jobs that definitions declare.

What flows (records, rows, predictions) is told by the jobs that it flows through, not by an event each.
Every event carries a facet of our own with the leaf and the id of the event that says so. The specification is that of
https://openlineage.io/spec/2-0-2/OpenLineage.json, as JSON.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final
from uuid import NAMESPACE_URL, uuid5

from mainstem.events import registry, serving, training
from mainstem.events.catalogue import decode
from mainstem.events.envelope import Envelope, Event
from mainstem.events.errors import MainstemError, Undecodable
from mainstem.events.fact import Fact
from mainstem.events.features import RowComputed
from mainstem.events.frames import Entry
from mainstem.events.instants import render
from mainstem.events.serving import Predicted
from mainstem.lineage.facts import ACCEPTED_TOPICS, SOURCE_TOPICS
from mainstem.project import ProjectDefinition, parse

Json = dict[str, object]

#: Who says it: the platform, wherever it runs.
PRODUCER: Final = "urn:mainstem:lineage"
#: The facet that names the entry of the log.
ENTRY: Final = "mainstem_entry"

_SPEC: Final = "https://openlineage.io/spec/2-0-2/OpenLineage.json#/$defs/"
_FACETS: Final = "https://openlineage.io/spec/facets/"
_VERSIONS: Final = {
    "DatasetVersionDatasetFacet": "1-0-1",
    "DatasetTypeDatasetFacet": "1-0-1",
    "DataQualityAssertionsDatasetFacet": "1-1-0",
    "OutputStatisticsOutputDatasetFacet": "1-0-2",
    "OwnershipJobFacet": "1-0-1",
    "JobTypeJobFacet": "2-0-4",
    "DocumentationJobFacet": "1-1-0",
    "ParentRunFacet": "1-2-0",
    "ErrorMessageRunFacet": "1-0-1",
    "TestRunFacet": "1-0-1",
}


@dataclass(slots=True)
class Export:
    """Turns the entries of a log into OpenLineage events, in their order; what is no fact of theirs leads to none."""

    #: Namespace of jobs and datasets: a name of the installation.
    namespace: str = "mainstem"
    _owners: dict[str, Sequence[Json]] = field(default_factory=dict)  #: by project
    _projects: dict[str, str] = field(default_factory=dict)  #: by model
    _requests: set[str] = field(default_factory=set)  #: for datasets

    def events(self, placed: Iterable[tuple[int, Entry]], only: Collection[int] | None = None) -> Iterator[Json]:
        """Yield the events that entries lead to, given with their leaves in the order of these.

        With `only`, yield those of some leaves: what the others declare, such as who owns a job by then, still counts.
        """
        for leaf, entry in placed:
            if entry.topic.startswith(SOURCE_TOPICS):
                continue
            try:
                event = decode(entry)
            except Undecodable:
                continue
            told = list(self._told(event.fact, _Said(leaf, event)))
            if only is None or leaf in only:
                yield from told

    def _told(self, fact: Fact, said: "_Said") -> Iterator[Json]:
        match fact:
            case registry.ProjectApplied():
                yield from self._applied(fact, said)
            case training.TrainingRequested():
                yield self._run("START", self._training(fact.model, fact.run), said)
            case training.StepCompleted():
                yield self._step(fact, said)
            case training.RunCompleted():
                yield self._completed(fact, said)
            case training.DatasetRequested() | training.DatasetBuilt():
                yield self._dataset(fact, said)
            case training.RunFailed() | training.DatasetFailed():
                yield self._failed(fact, said)
            case registry.VersionRegistered():
                yield self._registered(fact, said)
            case registry.DeploymentSet() | serving.DeploymentActivated():
                yield self._served(fact, said)
            case _:
                pass

    def _training(self, model: str, run: str) -> "_Run":
        return _Run(f"train.{model}", run, model)

    def _applied(self, fact: registry.ProjectApplied, said: "_Said") -> Iterator[Json]:
        """Tell the jobs of a definition; a definition that no reader of today knows declares none."""
        try:
            definition = parse(fact.definition)
        except (MainstemError, ValueError):
            return
        self._owners[fact.project] = _owners(definition)
        for label, part in definition.feature_sets.items():
            inputs = [self._data(f"{ACCEPTED_TOPICS}{source}", "TOPIC") for source in part.compiled.streams]
            rows = self._data(RowComputed.topic_of(label), "TOPIC", version=part.id)
            yield self._job(f"features.{label}", fact.project, said, inputs, [rows])
        for model in definition.models.values():
            self._projects[model.name] = fact.project
            rows = self._data(RowComputed.topic_of(model.feature_set), "TOPIC")
            labels = self._data(f"{ACCEPTED_TOPICS}{model.label.source}", "TOPIC")
            made = self._data(f"{model.name}.onnx", "MODEL")
            yield self._job(f"train.{model.name}", fact.project, said, [rows, labels], [made])

    def _step(self, fact: training.StepCompleted, said: "_Said") -> Json:
        run = _Run(f"train.{fact.model}.{fact.step}", f"{fact.run}/{fact.step}", fact.model)
        inputs = [self._data(f"{fact.model}.{name}", "FILE", version=at) for name, at in fact.inputs.items()]
        outputs = [self._data(f"{fact.model}.{name}", "FILE", version=at) for name, at in fact.outputs.items()]
        parent = self._parent(self._training(fact.model, fact.run))
        return self._run("COMPLETE", run, said, inputs, outputs, {"parent": parent})

    def _completed(self, fact: training.RunCompleted, said: "_Said") -> Json:
        inputs = [
            self._data(f"{fact.model}.dataset", "FILE", version=fact.dataset),
            self._data(f"{fact.project}.definition", "FILE", version=fact.definition),
        ]
        outputs = [
            self._data(f"{fact.model}.onnx", "MODEL", version=fact.onnx),
            self._data(f"{fact.model}.profile", "FILE", version=fact.profile),
        ]
        return self._run("COMPLETE", self._training(fact.model, fact.run), said, inputs, outputs)

    def _dataset(self, fact: training.DatasetRequested | training.DatasetBuilt, said: "_Said") -> Json:
        """Tell the building of a dataset; of one that a run had made the run is told, which goes on."""
        definition = self._data(f"{fact.project}.definition", "FILE", version=fact.definition)
        run = _Run(f"dataset.{fact.model}", fact.request, fact.model)
        if isinstance(fact, training.DatasetRequested):
            self._requests.add(fact.request)
            return self._run("START", run, said, [definition])
        rows = self._data(RowComputed.topic_of(fact.feature_set_label), "TOPIC", version=fact.feature_set)
        table = self._data(f"{fact.model}.table", "FILE", version=fact.table)
        built = self._data(f"{fact.model}.dataset", "FILE", version=fact.dataset)
        built["outputFacets"] = {"outputStatistics": _facet("OutputStatisticsOutputDatasetFacet", rowCount=fact.rows)}
        asked = fact.request in self._requests
        run = run if asked else self._training(fact.model, fact.request)
        return self._run("COMPLETE" if asked else "RUNNING", run, said, [definition, rows], [built, table])

    def _failed(self, fact: training.RunFailed | training.DatasetFailed, said: "_Said") -> Json:
        if isinstance(fact, training.RunFailed):
            run = self._training(fact.model, fact.run)
        else:
            run = _Run(f"dataset.{fact.model}", fact.request, fact.model)
        why = _facet("ErrorMessageRunFacet", message=fact.reason, programmingLanguage="PYTHON")
        return self._run("FAIL", run, said, facets={"errorMessage": why})

    def _registered(self, fact: registry.VersionRegistered, said: "_Said") -> Json:
        run = _Run(f"register.{fact.model}", f"{fact.model}/{fact.version}", fact.model)
        judged = self._data(f"{fact.model}.onnx", "MODEL", version=fact.onnx)
        gates = [{"assertion": gate.name, "success": gate.passed, "description": gate.detail} for gate in fact.gates]
        judged["inputFacets"] = {"dataQualityAssertions": _facet("DataQualityAssertionsDatasetFacet", assertions=gates)}
        facets = {
            "parent": self._parent(self._training(fact.model, fact.run)),
            "test": _facet("TestRunFacet", tests=[_test(gate) for gate in fact.gates]),
        }
        inputs = [
            judged,
            self._data(f"{fact.model}.profile", "FILE", version=fact.profile),
            self._data(f"{fact.model}.dataset", "FILE", version=fact.dataset),
        ]
        state = "COMPLETE" if all(gate.passed for gate in fact.gates) else "FAIL"
        outputs = [self._data(fact.model, "MODEL", version=str(fact.version))]
        return self._run(state, run, said, inputs, outputs, facets)

    def _served(self, fact: registry.DeploymentSet | serving.DeploymentActivated, said: "_Said") -> Json:
        served = [self._data(fact.model, "MODEL", version=str(fact.version))]
        if isinstance(fact, registry.DeploymentSet):
            topic = RowComputed.topic_of(fact.feature_set)
            served.append(self._data(topic, "TOPIC", version=fact.feature_definition))
        answers = self._data(Predicted.TOPIC.format(model=fact.model), "TOPIC")
        return self._job(f"serve.{fact.model}", self._projects.get(fact.model), said, served, [answers])

    def _data(self, name: str, kind: str, version: str | None = None) -> Json:
        facets: Json = {"datasetType": _facet("DatasetTypeDatasetFacet", datasetType=kind)}
        if version is not None:
            facets["version"] = _facet("DatasetVersionDatasetFacet", datasetVersion=version)
        return {"namespace": self.namespace, "name": name, "facets": facets}

    def _parent(self, run: "_Run") -> Json:
        job = {"namespace": self.namespace, "name": run.job}
        return _facet("ParentRunFacet", run={"runId": run.uuid}, job=job)

    def _run(
        self,
        state: str,
        run: "_Run",
        said: "_Said",
        inputs: Sequence[Json] = (),
        outputs: Sequence[Json] = (),
        facets: Mapping[str, object] | None = None,
    ) -> Json:
        about = {**(facets or {}), ENTRY: said.facet()}
        return {
            **_event("RunEvent", said.envelope),
            "eventType": state,
            "run": {"runId": run.uuid, "facets": about},
            "job": self._job_of(run.job, self._projects.get(run.model), "BATCH"),
            "inputs": list(inputs),
            "outputs": list(outputs),
        }

    def _job(
        self, name: str, project: str | None, said: "_Said", inputs: Sequence[Json], outputs: Sequence[Json]
    ) -> Json:
        kind = "BATCH" if name.startswith("train.") else "STREAMING"
        job = self._job_of(name, project, kind, {ENTRY: said.facet()})
        return {**_event("JobEvent", said.envelope), "job": job, "inputs": list(inputs), "outputs": list(outputs)}

    def _job_of(self, name: str, project: str | None, kind: str, facets: Mapping[str, object] | None = None) -> Json:
        type_ = _facet("JobTypeJobFacet", processingType=kind, integration="MAINSTEM", jobType="JOB")
        about: Json = {"jobType": type_, **(facets or {})}
        if project in self._owners:
            about["ownership"] = _facet("OwnershipJobFacet", owners=list(self._owners[project]))
        return {"namespace": self.namespace, "name": name, "facets": about}


@dataclass(frozen=True, slots=True)
class _Run:
    """A run of a job."""

    job: str
    id: str
    model: str

    @property
    def uuid(self) -> str:
        """The id that OpenLineage asks for: derived, so that every export says the same."""
        return str(uuid5(NAMESPACE_URL, f"{PRODUCER}:{self.id}"))


@dataclass(frozen=True, slots=True)
class _Said:
    """The entry that says something."""

    leaf: int
    event: Event

    @property
    def envelope(self) -> Envelope:
        """The envelope of its event."""
        return self.event.envelope

    def facet(self) -> Json:
        """Return the facet that names it."""
        named = {"leaf": self.leaf, "eventId": self.envelope.id, "eventType": self.envelope.type}
        schema = {"_producer": PRODUCER, "_schemaURL": f"{PRODUCER}:entry-facet:1"}
        return {**schema, **named, "actor": self.envelope.actor}


def _event(kind: str, envelope: Envelope) -> Json:
    return {"eventTime": render(envelope.time_us), "producer": PRODUCER, "schemaURL": _SPEC + kind}


def _facet(name: str, **fields: object) -> Json:
    url = f"{_FACETS}{_VERSIONS[name]}/{name}.json#/$defs/{name}"
    return {"_producer": PRODUCER, "_schemaURL": url, **fields}


def _owners(definition: ProjectDefinition) -> Sequence[Json]:
    owners = definition.charter.owners
    return ({"name": owners.technical, "type": "technical"}, {"name": owners.business, "type": "business"})


def _test(gate: registry.GateResult) -> Json:
    figures = {"expected": gate.limit, "actual": gate.figure}
    said = {name: str(figure) for name, figure in figures.items() if figure is not None}
    status = "pass" if gate.passed else "fail"
    return {"name": gate.name, "status": status, "severity": "error", "description": gate.detail, **said}
