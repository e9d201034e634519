"""From an answer back to what it came from, link by link, through the archive alone."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, Generic, TypeVar

import orjson

from mainstem.events.catalogue import decode
from mainstem.events.data import RecordAccepted
from mainstem.events.envelope import Envelope, Fact
from mainstem.events.errors import Rejected, Undecodable
from mainstem.events.features import RowComputed
from mainstem.events.frames import Entry, unframe
from mainstem.events.instants import parse as instant
from mainstem.events.instants import render
from mainstem.events.registry import DeploymentSet, ProjectApplied, VersionApproved, VersionPromoted, VersionRegistered
from mainstem.events.serving import DeploymentActivated, Predicted
from mainstem.events.training import RunCompleted
from mainstem.ledger_service.domain import Placed, entries_of, frames_of
from mainstem.ledger_service.store import PostgresStore
from mainstem.project import ProjectDefinition, parse

_LEAST_DIGITS: Final = 8
_PREDICTIONS: Final = Predicted.TOPIC.partition("{")[0]
#: The topics whose few events say how a version came to answer.
_HISTORY: Final = (
    ProjectApplied.TOPIC,
    RunCompleted.TOPIC,
    VersionRegistered.TOPIC,
    DeploymentSet.TOPIC,
    DeploymentActivated.TOPIC,
)

F = TypeVar("F", bound=Fact)


@dataclass(frozen=True, slots=True)
class Found(Generic[F]):
    """An event of the archive with its place."""

    leaf: int
    entry: Entry
    envelope: Envelope
    fact: F


@dataclass(frozen=True, slots=True)
class Link:
    """One record of the story: what it is, where it stands, and what it says that matters here."""

    name: str
    leaf: int
    topic: str
    partition: int
    offset: int
    event_id: str | None
    recorded: str | None
    says: dict[str, object]


@dataclass(slots=True)
class Explanation:
    """The links that were found, from the answer back to its sources, and what was not found."""

    links: list[Link] = field(default_factory=list)
    gaps: list[str] = field(default_factory=list)

    def add(self, name: str, found: Found[F], says: dict[str, object]) -> None:
        """Add an event."""
        envelope = found.envelope
        place = (found.leaf, found.entry.topic, found.entry.partition, found.entry.offset)
        self.links.append(Link(name, *place, envelope.id, render(envelope.recorded_us), says))


async def explain(store: PostgresStore, prediction_id: str) -> Explanation:
    """Follow a prediction to its inputs, its model's history and its label; raise Rejected when it is not found."""
    prediction = await _prediction(store, prediction_id)
    story = Explanation()
    fact = prediction.fact
    history = await _history(store)
    project = _definition(history, prediction)
    story.add("prediction", prediction, fact.model_dump(exclude={"features", "row"}))
    if project is None:
        story.gaps.append(f"project: no definition with feature set {fact.feature_definition} is in the archive")
    spine = await _inputs(store, story, prediction, project)
    _version(story, history, prediction)
    await _label(store, story, fact.model, spine, project)
    return story


async def _prediction(store: PostgresStore, prediction_id: str) -> Found[Predicted]:
    digits = prediction_id.lower()
    if len(digits) < _LEAST_DIGITS or not set(digits) <= set("0123456789abcdef"):
        raise Rejected(
            f"{prediction_id!r} is no prediction id; give at least {_LEAST_DIGITS} hexadecimal digits of one"
        )
    found = list(_events(Predicted, await store.with_id_prefix(digits, _PREDICTIONS)))
    if len(found) != 1:
        ids = ", ".join(each.envelope.id for each in found[:5]) or "none"
        raise Rejected(f"{len(found)} predictions begin with {digits}: {ids}; give the whole id of an archived one")
    return found[0]


async def _history(store: PostgresStore) -> list[Placed]:
    async with store.snapshot() as archive:
        return [
            Placed(block.first_leaf + place, entry)
            async for block in archive.blocks(_HISTORY)
            for place, entry in enumerate(entries_of(block))
        ]


def _events(kind: type[F], placed: Sequence[Placed]) -> Iterator[Found[F]]:
    """Yield those that are events of a kind."""
    for leaf, entry in placed:
        try:
            event = decode(entry)
        except Undecodable:
            continue
        if isinstance(event.fact, kind):
            yield Found(leaf, entry, event.envelope, event.fact)


def _definition(history: Sequence[Placed], prediction: Found[Predicted]) -> ProjectDefinition | None:
    """Return the definition with the feature set: the last archived before the prediction, else the first after."""
    found: ProjectDefinition | None = None
    for applied in _events(ProjectApplied, history):
        if found is None or applied.leaf < prediction.leaf:
            project = parse(applied.fact.definition)
            if any(part.id == prediction.fact.feature_definition for part in project.feature_sets.values()):
                found = project
    return found


async def _inputs(
    store: PostgresStore, story: Explanation, prediction: Found[Predicted], project: ProjectDefinition | None
) -> Found[RecordAccepted] | None:
    """Follow the inputs back to the source; return the accepted record that asked the question."""
    fact = prediction.fact
    if fact.row is None:
        story.gaps.append(f"feature row: asked over {fact.channel}, the caller gave the inputs: {fact.features}")
        return None
    row = await _one(store, RowComputed, fact.row)
    if row is None:
        story.gaps.append(f"feature row: {fact.row} is not in the archive")
        return None
    story.add("feature row", row, {"feature_set": row.fact.feature_set, "values": _by_name(row.fact, project)})
    if row.fact.values != fact.features:
        story.gaps.append("feature row: its values are not the inputs that were scored")
    spine = await _one(store, RecordAccepted, row.fact.spine_id)
    if spine is None:
        story.gaps.append(f"accepted record: {row.fact.spine_id} is not in the archive")
        return None
    story.add("accepted record", spine, {"contract": spine.fact.contract, "record": spine.fact.record})
    await _source(store, story, spine)
    return spine


def _by_name(row: RowComputed, project: ProjectDefinition | None) -> dict[str, float | None]:
    names: Sequence[str] = [str(number) for number in range(len(row.values))]
    if project is not None:
        names = next((s.compiled.names for s in project.feature_sets.values() if s.id == row.definition), names)
    return dict(zip(names, row.values, strict=True))


async def _source(store: PostgresStore, story: Explanation, spine: Found[RecordAccepted]) -> None:
    """Find the source's own record at the place that the accepted one names as its origin."""
    stream, _, offset = (spine.envelope.origin or "").rpartition("/")
    topic, _, part = stream.partition("#")[0].rpartition("/")
    placed = await store.at(topic, int(part), int(offset)) if part.isdecimal() and offset.isdecimal() else None
    if placed is None:
        story.gaps.append(f"source record: nothing is archived at {spine.envelope.origin}")
        return
    entry = placed.entry
    headers = {name: (value or b"").decode(errors="replace") for name, value in entry.headers}
    says = {"key": (entry.key or b"").decode(errors="replace"), "bytes": len(entry.value or b"")}
    place = (placed.leaf, entry.topic, entry.partition, entry.offset)
    story.links.append(Link("source record", *place, headers.get("ce_id"), headers.get("ce_recordedtime"), says))


async def _one(store: PostgresStore, kind: type[F], event_id: str) -> Found[F] | None:
    return next(_events(kind, await store.with_id(event_id)), None)


def _version(story: Explanation, history: Sequence[Placed], prediction: Found[Predicted]) -> None:
    """Tell how the version that answered was made, judged, approved and put in force."""
    model, version, onnx = prediction.fact.model, prediction.fact.version, prediction.fact.onnx
    registered = _last(VersionRegistered, history, model=model, version=version)
    if registered is None:
        story.gaps.append(f"registration: version {version} of {model} is not in the archive")
    else:
        fact = registered.fact
        run = _last(RunCompleted, history, model=model, run=fact.run)
        if run is None:
            story.gaps.append(f"training run: {fact.run} is not in the archive")
        else:
            story.add("training run", run, run.fact.model_dump(include={"run", "cause", "requested_by", "definition"}))
        story.add("registration", registered, fact.model_dump(exclude={"model", "project", "definition", "cause"}))
    for name, kind in (("approval", VersionApproved), ("promotion", VersionPromoted)):
        _add_last(story, name, _last(kind, history, model=model, version=version))
    _add_last(story, "deployment in force", _in_force(history, model, prediction.envelope.recorded_us))
    _add_last(story, "activation", _last(DeploymentActivated, history, model=model, version=version))
    _check_digests(story, onnx, version)


def _in_force(history: Sequence[Placed], model: str, recorded_us: int) -> Found[DeploymentSet] | None:
    """Return the deployment that answered at a recorded time; it may take effect later than it was asked to."""
    activations = [
        each.fact.version
        for each in _events(DeploymentActivated, history)
        if each.fact.model == model and instant(each.fact.effective_from) <= recorded_us
    ]
    deployments = [
        each
        for each in _events(DeploymentSet, history)
        if each.fact.model == model and instant(each.fact.effective_from) <= recorded_us
        if each.fact.version in activations[-1:]
    ]
    return deployments[-1] if deployments else None


def _last(kind: type[F], history: Sequence[Placed], **wanted: object) -> Found[F] | None:
    found = [e for e in _events(kind, history) if all(getattr(e.fact, k) == v for k, v in wanted.items())]
    return found[-1] if found else None


def _add_last(story: Explanation, name: str, found: Found[F] | None) -> None:
    if found is None:
        story.gaps.append(f"{name}: none is in the archive")
    else:
        story.add(name, found, found.fact.model_dump(exclude={"model", "features", "project", "profile"}))


def _check_digests(story: Explanation, onnx: str, version: int) -> None:
    """Every step must speak of the very bytes, and the deployment of the very version, that answered."""
    for link in story.links:
        if link.says.get("onnx", onnx) != onnx:
            story.gaps.append(f"{link.name}: it is about {link.says['onnx']}, {onnx} answered")
        if link.says.get("version", version) != version:
            story.gaps.append(f"{link.name}: it is about version {link.says['version']}, version {version} answered")


async def _label(
    store: PostgresStore,
    story: Explanation,
    model: str,
    spine: Found[RecordAccepted] | None,
    project: ProjectDefinition | None,
) -> None:
    """Find the record that brought the truth, by the key that the model's label is joined by."""
    definition = project.models.get(model) if project else None
    if definition is None or spine is None:
        story.gaps.append("label: without the project's definition and the accepted record its key is not known")
        return
    label = definition.label
    key = spine.fact.record.get(label.key)
    found = await _with_field(store, RecordAccepted.TOPIC.format(source=label.source), label.key, key)
    if found is None:
        story.gaps.append(f"label: no record of {label.source} with {label.key} = {key!r} has arrived")
        return
    value = found.fact.record.get(label.column)
    truth = None if value is None else value > label.above
    story.add("label", found, {label.column: value, "above": label.above, "truth": truth})


async def _with_field(store: PostgresStore, topic: str, name: str, value: object) -> Found[RecordAccepted] | None:
    """Return the last accepted record of a topic that has this value; only frames that hold its text are decoded."""
    needle = orjson.dumps(value)
    found: list[Found[RecordAccepted]] = []
    async with store.snapshot() as archive:
        async for block in archive.blocks([topic]):
            holding = [
                Placed(block.first_leaf + place, unframe(frame))
                for place, frame in enumerate(frames_of(block))
                if needle in frame
            ]
            found += [each for each in _events(RecordAccepted, holding) if each.fact.record.get(name) == value]
    return found[-1] if found else None
