"""What each fact says: the node that its event stands for, and edges from what it names.

A new type of fact is one more function here, or a line in `LEFT_OUT` with the reason.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, NamedTuple, TypeVar

from mainstem.events import data, features, ledger, monitoring, registry, serving, training
from mainstem.events.envelope import Envelope, Event
from mainstem.events.errors import MainstemError
from mainstem.events.fact import Fact
from mainstem.events.fence import read_origin
from mainstem.lineage.nodes import Edge, Kind, Node, Relation, happening, place, version
from mainstem.project import parse

F = TypeVar("F", bound=Fact)

#: What the names of topics of sources, and of what was accepted of them, begin with.
SOURCE_TOPICS: Final = "src."
ACCEPTED_TOPICS: Final = "evt.data."
#: Facts that say nothing of what is made of what.
LEFT_OUT: Final[dict[type[Fact], str]] = {
    data.ProgressReached: "it says that nothing more will come, and nothing is made of it",
}
#: Facts of ingestion: what their envelopes call the cause is an id that a source gave, and no event of ours.
_CAUSED_OUTSIDE: Final = (data.RecordAccepted, data.RecordQuarantined, data.RecordRedriven, data.BatchJudged)


class Said(NamedTuple):
    """What an event says: `subject` is the node that it stands for, whoever names the event means that."""

    subject: Node
    edges: list[Edge]


@dataclass(slots=True)
class Known:
    """What earlier facts on the same topics said and later ones stand on; a log is read in its order."""

    approvals: dict[Node, list[Node]] = field(default_factory=dict)
    requests: set[str] = field(default_factory=set)  #: for datasets, by id
    definitions: set[str] = field(default_factory=set)  #: of projects, and of parts of them
    produced: set[tuple[str, str]] = field(default_factory=set)  #: run, and address of what it wrote


Reader = Callable[[F, Envelope, Known], Said]
READERS: Final[dict[type[Fact], Callable[..., Said]]] = {}


def says(fact: type[F]) -> Callable[[Reader[F]], Reader[F]]:
    """Enter a function as the one that reads a type of fact."""

    def enter(reader: Reader[F]) -> Reader[F]:
        READERS[fact] = reader
        return reader

    return enter


def read(event: Event, known: Known) -> Said | None:
    """Return what an event says, its causation included; None for a fact that is left out."""
    fact, envelope = event.fact, event.envelope
    reader = READERS.get(type(fact))
    if reader is None:
        return None
    said = reader(fact, envelope, known)
    if not isinstance(fact, _CAUSED_OUTSIDE):
        said.edges.append(Edge(happening(envelope.causation), Relation.LED_TO, said.subject))
    return said


def _to(subject: Node, *sources: tuple[Node, Relation]) -> Said:
    return Said(subject, [Edge(source, relation, subject) for source, relation in sources])


def _definition(address: str) -> tuple[Node, Relation]:
    return Node(Kind.DEFINITION, address), Relation.DEFINES


def _artifacts(relation: Relation, *addresses: str) -> list[tuple[Node, Relation]]:
    return [(Node(Kind.ARTIFACT, address), relation) for address in addresses]


def _record_of(envelope: Envelope) -> list[tuple[Node, Relation]]:
    """Return the place of the source's record, which is the origin of what ingestion makes of it."""
    known = read_origin((envelope.origin or "").encode())
    if known is None or not known[0].startswith(SOURCE_TOPICS) or "#" in known[0]:
        return []
    return [(Node(Kind.RECORD, f"{known[0]}/{known[1]}"), Relation.ACCEPTED_AS)]


@says(data.RecordAccepted)
def _accepted(fact: data.RecordAccepted, envelope: Envelope, _: Known) -> Said:
    corrects = [(Node(Kind.QUARANTINED, fact.replaces), Relation.CORRECTED_AS)] if fact.replaces else []
    judged = Node(Kind.DEFINITION, fact.contract), Relation.JUDGES
    return _to(Node(Kind.ACCEPTED, envelope.id), *_record_of(envelope), judged, *corrects)


@says(data.RecordQuarantined)
def _quarantined(fact: data.RecordQuarantined, _: Envelope, __: Known) -> Said:
    record = place(SOURCE_TOPICS + fact.source, fact.partition, fact.offset)
    judged = Node(Kind.DEFINITION, fact.contract), Relation.JUDGES
    return _to(Node(Kind.QUARANTINED, fact.quarantine_id), (record, Relation.QUARANTINED_AS), judged)


@says(data.RecordRedriven)
def _redriven(fact: data.RecordRedriven, envelope: Envelope, _: Known) -> Said:
    """Tell of both: that one corrects the other is said by the accepted record itself."""
    about = Node(Kind.QUARANTINED, fact.quarantine_id), Node(Kind.ACCEPTED, fact.accepted_id)
    return _to(happening(envelope.id), *((node, Relation.TOLD_IN) for node in about))


@says(data.BatchJudged)
def _batch(fact: data.BatchJudged, envelope: Envelope, _: Known) -> Said:
    """Name the first record of the block: the others follow it, and one edge each would say no more."""
    first = place(SOURCE_TOPICS + fact.source, fact.partition, fact.first_offset)
    return _to(happening(envelope.id), (first, Relation.JUDGES))


@says(features.RowComputed)
def _row(fact: features.RowComputed, envelope: Envelope, _: Known) -> Said:
    spine = Node(Kind.ACCEPTED, fact.spine_id), Relation.COMPUTED_INTO
    return _to(Node(Kind.ROW, envelope.id), spine, _definition(fact.definition))


@says(features.OrderJournalled)
def _journal(fact: features.OrderJournalled, envelope: Envelope, _: Known) -> Said:
    """Leave out the runs: which records a value rests on is computed when asked, from the order that they say."""
    return _to(happening(envelope.id), _definition(fact.definition))


@says(features.VectorsChecked)
def _checked(fact: features.VectorsChecked, envelope: Envelope, _: Known) -> Said:
    wrong = _differing(fact.first_difference, Relation.TOLD_IN)
    return _to(happening(envelope.id), _definition(fact.definition), *wrong)


def _differing(difference: features.Difference | None, relation: Relation) -> list[tuple[Node, Relation]]:
    if difference is None or not difference.spine_id:
        return []
    return [(Node(Kind.ACCEPTED, difference.spine_id), relation)]


@says(features.FoldStopped)
def _stopped(fact: features.FoldStopped, envelope: Envelope, _: Known) -> Said:
    return _to(happening(envelope.id), _definition(fact.definition))


@says(features.ValuesRead)
def _values(fact: features.ValuesRead, envelope: Envelope, _: Known) -> Said:
    return _to(happening(envelope.id), _definition(fact.definition))


@says(training.TrainingRequested)
def _run_requested(fact: training.TrainingRequested, _: Envelope, __: Known) -> Said:
    made_elsewhere = [] if fact.imported is None else _artifacts(Relation.IMPORTED_BY, fact.imported)
    return _to(Node(Kind.RUN, fact.run), *made_elsewhere)


@says(training.StepCompleted)
def _step(fact: training.StepCompleted, _: Envelope, known: Known) -> Said:
    """Leave out what a run takes of its own making; a dataset is none of it: that is found in the log."""
    run = Node(Kind.RUN, fact.run)
    taken = {**fact.inputs, **{name: fact.outputs[name] for name in ("dataset",) if name in fact.outputs}}
    made = {name: address for name, address in fact.outputs.items() if name not in {"dataset", "table"}}
    said = _to(run, *_artifacts(Relation.RAN, fact.code, fact.environment))
    for name, address in taken.items():
        if name == "dataset":
            said.edges.append(Edge(Node(Kind.DATASET, address), Relation.TRAINED_ON, run))
        elif name == "imported":
            said.edges.append(Edge(Node(Kind.ARTIFACT, address), Relation.IMPORTED_BY, run))
        elif (fact.run, address) not in known.produced:
            said.edges.append(Edge(Node(Kind.ARTIFACT, address), Relation.TRAINED_ON, run))
    if {"dataset", "table"} <= fact.outputs.keys():
        said.edges.append(_table(fact.outputs["table"], fact.outputs["dataset"]))
    for address in made.values():
        known.produced.add((fact.run, address))
        said.edges.append(Edge(run, Relation.PRODUCED, Node(Kind.ARTIFACT, address)))
    return said


def _table(table: str, dataset: str) -> Edge:
    return Edge(Node(Kind.ARTIFACT, table), Relation.HELD_IN, Node(Kind.DATASET, dataset))


@says(training.RunCompleted)
def _run_completed(fact: training.RunCompleted, _: Envelope, __: Known) -> Said:
    run = Node(Kind.RUN, fact.run)
    dataset = Node(Kind.DATASET, fact.dataset), Relation.TRAINED_ON
    said = _to(run, _definition(fact.definition), _definition(fact.feature_set), dataset)
    made = [Edge(run, Relation.PRODUCED, Node(Kind.ARTIFACT, address)) for address in (fact.onnx, fact.profile)]
    return Said(run, said.edges + made)


@says(training.RunFailed)
def _run_failed(fact: training.RunFailed, _: Envelope, __: Known) -> Said:
    return Said(Node(Kind.RUN, fact.run), [])


@says(training.DatasetRequested)
def _dataset_requested(fact: training.DatasetRequested, _: Envelope, known: Known) -> Said:
    known.requests.add(fact.request)
    return _to(Node(Kind.RUN, fact.request), _definition(fact.definition))


@says(training.DatasetBuilt)
def _dataset_built(fact: training.DatasetBuilt, _: Envelope, known: Known) -> Said:
    """Tell a request, which makes a dataset, from a run, which takes it: another run may take the same."""
    dataset, request = Node(Kind.DATASET, fact.dataset), Node(Kind.RUN, fact.request)
    said = _to(dataset, _definition(fact.definition), _definition(fact.feature_set))
    asked = fact.request in known.requests
    link = Edge(request, Relation.PRODUCED, dataset) if asked else Edge(dataset, Relation.TRAINED_ON, request)
    return Said(dataset if asked else request, [*said.edges, _table(fact.table, fact.dataset), link])


@says(training.DatasetFailed)
def _dataset_failed(fact: training.DatasetFailed, _: Envelope, __: Known) -> Said:
    return Said(Node(Kind.RUN, fact.request), [])


@says(registry.ProjectApplied)
def _applied(fact: registry.ProjectApplied, _: Envelope, known: Known) -> Said:
    """Tell the parts that a definition brings from those that were there, of which it is made."""
    project = Node(Kind.DEFINITION, fact.definition_id)
    said = Said(project, [])
    if fact.definition_id in known.definitions:
        return said
    for address in _parts(fact):
        part = Node(Kind.DEFINITION, address)
        there = address in known.definitions
        said.edges.append(Edge(part, Relation.PART_OF, project) if there else Edge(project, Relation.DECLARES, part))
        known.definitions.add(address)
    known.definitions.add(fact.definition_id)
    return said


def _parts(fact: registry.ProjectApplied) -> list[str]:
    """Return the identities of feature sets and contracts; none when no reader of today knows the definition."""
    try:
        definition = parse(fact.definition)
    except (MainstemError, ValueError):
        return []
    sets = [part.id for part in definition.feature_sets.values()]
    return [*sets, *(contract.id for contract in definition.sources.values())]


@says(registry.VersionRegistered)
def _registered(fact: registry.VersionRegistered, _: Envelope, __: Known) -> Said:
    made_of = (Node(Kind.RUN, fact.run), Node(Kind.DATASET, fact.dataset))
    return _to(
        version(fact.model, fact.version),
        *((source, Relation.REGISTERED_AS) for source in made_of),
        *_artifacts(Relation.REGISTERED_AS, fact.onnx, fact.profile),
        _definition(fact.definition),
        _definition(fact.feature_set),
    )


@says(registry.VersionApproved)
def _approved(fact: registry.VersionApproved, envelope: Envelope, known: Known) -> Said:
    approval, of = Node(Kind.APPROVAL, envelope.id), version(fact.model, fact.version)
    known.approvals.setdefault(of, []).append(approval)
    return _to(approval, (of, Relation.APPROVED_AS), *_artifacts(Relation.APPROVED_AS, fact.onnx))


@says(registry.ChangeRefused)
def _refused(fact: registry.ChangeRefused, envelope: Envelope, _: Known) -> Said:
    about = [(version(fact.model, fact.version), Relation.TOLD_IN)]
    if fact.impact is not None:
        about.append((Node(Kind.DEFINITION, fact.impact.pinned), Relation.TOLD_IN))
    return _to(happening(envelope.id), *about)


@says(registry.VersionPromoted)
def _promoted(fact: registry.VersionPromoted, envelope: Envelope, known: Known) -> Said:
    """Leave out the version that is replaced: the promotion is not made of it."""
    of = version(fact.model, fact.version)
    allowed = [(approval, Relation.ALLOWED) for approval in known.approvals.get(of, [])]
    return _to(Node(Kind.PROMOTION, envelope.id), (of, Relation.PROMOTED_AS), *allowed)


@says(registry.DeploymentSet)
def _deployment(fact: registry.DeploymentSet, envelope: Envelope, _: Known) -> Said:
    versions = [fact.version, *(arm.version for arm in fact.arms)]
    files = [fact.onnx, fact.profile, *(file for arm in fact.arms for file in (arm.onnx, arm.profile))]
    return _to(
        Node(Kind.DEPLOYMENT, envelope.id),
        *((version(fact.model, number), Relation.DEPLOYED_AS) for number in versions),
        *_artifacts(Relation.DEPLOYED_AS, *files),
        _definition(fact.feature_definition),
    )


@says(serving.DeploymentActivated)
def _activated(fact: serving.DeploymentActivated, envelope: Envelope, _: Known) -> Said:
    of = version(fact.model, fact.version), Relation.ACTIVATED_AS
    return _to(Node(Kind.ACTIVATION, envelope.id), of, *_artifacts(Relation.ACTIVATED_AS, fact.onnx))


@says(serving.DeploymentRefused)
def _not_activated(fact: serving.DeploymentRefused, envelope: Envelope, _: Known) -> Said:
    return _to(happening(envelope.id), (version(fact.model, fact.version), Relation.TOLD_IN))


@says(serving.DeploymentLost)
def _lost(fact: serving.DeploymentLost, envelope: Envelope, _: Known) -> Said:
    about = version(fact.model, fact.version), Relation.TOLD_IN
    return _to(happening(envelope.id), about, *_artifacts(Relation.TOLD_IN, fact.onnx))


@says(serving.Predicted)
def _predicted(fact: serving.Predicted, envelope: Envelope, _: Known) -> Said:
    row = [(Node(Kind.ROW, fact.row), Relation.SCORED_INTO)] if fact.row else []
    return _to(
        Node(Kind.PREDICTION, envelope.id),
        *row,
        (version(fact.model, fact.version), Relation.ANSWERED),
        *_artifacts(Relation.ANSWERED, fact.onnx),
        _definition(fact.feature_definition),
    )


@says(serving.ShadowScored)
def _shadowed(fact: serving.ShadowScored, envelope: Envelope, _: Known) -> Said:
    about = version(fact.model, fact.version), Relation.TOLD_IN
    return _to(happening(envelope.id), about, *_artifacts(Relation.TOLD_IN, fact.onnx))


@says(monitoring.WindowJudged)
def _window(fact: monitoring.WindowJudged, envelope: Envelope, _: Known) -> Said:
    of = [] if fact.version is None else [(version(fact.model, fact.version), Relation.JUDGED_IN)]
    return _to(Node(Kind.WINDOW, envelope.id), *of)


@says(monitoring.AlertOpened)
def _alert(fact: monitoring.AlertOpened, _: Envelope, __: Known) -> Said:
    return _to(Node(Kind.ALERT, fact.alert), (version(fact.model, fact.version), Relation.ALERTED))


@says(monitoring.FeatureAlertOpened)
def _feature_alert(fact: monitoring.FeatureAlertOpened, _: Envelope, __: Known) -> Said:
    on = version(fact.model, fact.version), Node(Kind.DEFINITION, fact.definition)
    wrong = _differing(fact.difference, Relation.ALERTED)
    return _to(Node(Kind.ALERT, fact.alert), *((one, Relation.ALERTED) for one in on), *wrong)


@says(monitoring.FeatureSetAlertOpened)
def _set_alert(fact: monitoring.FeatureSetAlertOpened, _: Envelope, __: Known) -> Said:
    on = Node(Kind.DEFINITION, fact.definition), Relation.ALERTED
    return _to(Node(Kind.ALERT, fact.alert), on, *_differing(fact.difference, Relation.ALERTED))


@says(monitoring.RetrainingAsked)
def _retraining(fact: monitoring.RetrainingAsked, envelope: Envelope, _: Known) -> Said:
    return _to(Node(Kind.RESPONSE, envelope.id), (Node(Kind.ALERT, fact.alert), Relation.ASKED))


@says(monitoring.AlertClosed)
def _alert_closed(fact: monitoring.AlertClosed, envelope: Envelope, _: Known) -> Said:
    return _to(happening(envelope.id), (Node(Kind.ALERT, fact.alert), Relation.TOLD_IN))


@says(monitoring.FeatureSetAlertClosed)
def _set_alert_closed(fact: monitoring.FeatureSetAlertClosed, envelope: Envelope, _: Known) -> Said:
    return _to(happening(envelope.id), (Node(Kind.ALERT, fact.alert), Relation.TOLD_IN))


@says(ledger.CheckpointPublished)
def _checkpoint(_: ledger.CheckpointPublished, envelope: Envelope, __: Known) -> Said:
    """Leave out what it covers: that is every leaf below its size."""
    return Said(happening(envelope.id), [])


@says(ledger.RangeSealed)
def _sealed(fact: ledger.RangeSealed, envelope: Envelope, _: Known) -> Said:
    return _to(happening(envelope.id), (Node(Kind.ARTIFACT, fact.segment), Relation.TOLD_IN))


@says(ledger.ReceiptIssued)
def _receipt(fact: ledger.ReceiptIssued, envelope: Envelope, _: Known) -> Said:
    return _to(happening(envelope.id), (happening(fact.event_id), Relation.TOLD_IN))
