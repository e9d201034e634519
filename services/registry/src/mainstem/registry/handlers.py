"""Definitions come into force, runs are judged: each a transaction on the book."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

from mainstem.events.envelope import Event, follow
from mainstem.events.errors import Rejected
from mainstem.events.features import RowComputed
from mainstem.events.ids import child_id
from mainstem.events.instants import parse
from mainstem.events.ledger import ReceiptIssued
from mainstem.events.registry import ChangeRefused, Impact, PinnedBy, ProjectApplied, ReadBy, VersionRegistered
from mainstem.events.registry import GateResult as PublishedGate
from mainstem.events.topics import TOPICS, ConcreteTopic, fixed, member
from mainstem.events.training import DatasetBuilt, RunCompleted
from mainstem.project.definition import ProjectDefinition
from mainstem.project.model import Gates
from mainstem.registry import domain
from mainstem.registry.desk import SOURCE, Command, commanded, in_production
from mainstem.registry.domain import BrokenPin, Evidence, GateResult
from mainstem.registry.ports import Book, Broker, Definition, Registered
from mainstem.runtime import Problem

#: Actors that begin like this are services of ours, not people.
_SERVICES = "/mainstem/"


@dataclass(frozen=True, slots=True)
class Application:
    """What became of a definition that was handed in."""

    project: str
    definition_id: str
    unchanged: bool


@dataclass(frozen=True, slots=True)
class Pinned:
    """What a refused definition would have broken, set by set, and the whole in a sentence."""

    detail: str
    impact: list[Impact]


async def implied_command(book: Book, definition: ProjectDefinition) -> str:
    """Return the id of an application that came without one: what it replaces and what it brings."""
    name = definition.charter.name
    before = [project.event_id for project in await book.projects() if project.name == name]
    return child_id(before[0] if before else name, definition.id)


async def apply_project(
    book: Book, broker: Broker, definition: ProjectDefinition, command: Command
) -> Application | Pinned:
    """Put a definition in force, its topics created first; nothing happens when it is in force already.

    What would change a feature set under a version that pins it is refused, and each such version has it on record.
    Raises Problem 409 when a name or a topic is not the project's to take, and Rejected for what no folder may declare.
    """
    await book.lock("projects")
    name = definition.charter.name
    scope = command.scope(f"apply:{definition.id}")
    if await book.find(child_id(scope, ProjectApplied.TYPE)):
        return Application(name, definition.id, unchanged=False)
    in_force = {project.name: project.definition_id for project in await book.projects()}
    if in_force.get(name) == definition.id:
        return Application(name, definition.id, unchanged=True)
    known = await book.definitions()
    _may_be_declared(definition, [old.content for old in known if old.definition_id == in_force.get(name)])
    others = [other for other in known if other.project != name and other.definition_id in in_force.values()]
    _names_are_free(definition, others)
    topics = implied_topics(definition)
    _topics_are_free(topics, known)
    for before in [old.content for old in known if old.definition_id == in_force.get(name)]:
        broken = await _broken_pins(book, before, definition)
        if broken:
            labels = before.feature_sets.keys() | definition.feature_sets.keys()
            return await _refuse(book, broker, broken, replace(command, id=scope), labels)
    await broker.create(topics)
    fact = ProjectApplied(
        project=name,
        definition_id=definition.id,
        definition=definition.model_dump(mode="json"),
        applied_by=command.principal.name,
    )
    await book.record(commanded(command, scope, fact))
    return Application(name, definition.id, unchanged=False)


def implied_topics(definition: ProjectDefinition) -> list[ConcreteTopic]:
    """Return the topics that a definition brings into being; what derives from a spine is partitioned like it."""
    sources, sets = definition.sources, definition.feature_sets
    spines = {name: sources[part.compiled.spine].partitions for name, part in sets.items()}
    return [
        *(member("src.{source}", name, contract.partitions) for name, contract in sources.items()),
        *(member("evt.data.{source}", name, contract.partitions) for name, contract in sources.items()),
        *(member(RowComputed.TOPIC, name, partitions) for name, partitions in spines.items()),
        *(member("tel.prediction.{model}", m.name, spines[m.feature_set]) for m in definition.models.values()),
    ]


async def _broken_pins(book: Book, before: ProjectDefinition, after: ProjectDefinition) -> list[BrokenPin]:
    """Return the pins that a change would break; until the transaction ends nobody else decides on the versions."""
    old, new = ({label: part.id for label, part in d.feature_sets.items()} for d in (before, after))
    if all(new.get(label) == id_ for label, id_ in old.items()):
        return []
    readers = [found for found in await book.versions() if found.fact.project == before.charter.name]
    for model in sorted({found.version.model for found in readers} | before.models.keys()):
        await book.lock(model)
    return domain.broken_pins(old, new, [(found.fact.feature_set, found.version) for found in await book.versions()])


async def _refuse(
    book: Book, broker: Broker, broken: Sequence[BrokenPin], refused: Command, labels: set[str]
) -> Pinned:
    """Put the refusal on record for every version that pins one of the sets, and return what it was for."""
    topics = {pin.label: RowComputed.topic_of(pin.label) for pin in broken}
    groups = await broker.groups(list(topics.values()))
    impact = [
        Impact(
            feature_set=pin.label,
            pinned=pin.pinned,
            proposed=pin.proposed,
            versions=[PinnedBy(model=v.model, version=v.number, stage=v.stage) for v in pin.versions],
            datasets=await book.datasets(pin.pinned),
            consumer_groups=[
                ReadBy(group=name, platform=_is_ours(name, pin.label)) for name in groups[topics[pin.label]]
            ],
            remedy=domain.remedy(pin, labels),
        )
        for pin in broken
    ]
    for pin, broke in zip(broken, impact, strict=True):
        await _put_on_record(book, refused, pin, broke)
    return Pinned("; ".join(f"{pin.reason}; {broke.remedy}" for pin, broke in zip(broken, impact, strict=True)), impact)


async def _put_on_record(book: Book, refused: Command, pin: BrokenPin, impact: Impact) -> None:
    """Record the refusal in the story of each version that pins the set."""
    versions = {(found.version.model, found.version.number): found for found in await book.versions()}
    for version in pin.versions:
        found = versions[version.model, version.number]
        fact = ChangeRefused(
            model=version.model,
            version=version.number,
            request="apply",
            requested_by=refused.principal.name,
            rule=domain.PINNED,
            reason=pin.reason,
            impact=impact,
        )
        at = replace(refused, recorded_us=max(refused.recorded_us, parse(found.recorded_time)))
        event = commanded(at, child_id(refused.scope("apply"), f"{pin.label}:{version.label}"), fact)
        await book.record(Event(replace(event.envelope, correlation=found.correlation), fact))


def _is_ours(group: str, label: str) -> bool:
    """Tell whether a consumer group of a set's rows is a service of the platform: under its own name, or the check."""
    (rows,) = [topic for topic in TOPICS if topic.pattern == RowComputed.TOPIC]
    return group in rows.readers or group == f"{rows.writer}-check-{label}"


def _may_be_declared(definition: ProjectDefinition, before: Sequence[ProjectDefinition]) -> None:
    """Refuse what the loader of a project folder refuses, in its words: a definition need not come from a folder.

    The sets of the definition before stay as they are: versions may pin them.
    """
    kept = [part for old in before for part in old.feature_sets.values()]
    for label, error in definition.unwritten(kept):
        raise Rejected(f"feature set {label!r}: {error}")
    for fault in definition.unjoined():
        raise Rejected(f"{fault.found}; {fault.fix}")


def _names_are_free(definition: ProjectDefinition, others: Sequence[Definition]) -> None:
    for other in others:
        theirs = other.content
        taken = [
            *(f"source {name!r}" for name in definition.sources if name in theirs.sources),
            *(f"feature set {name!r}" for name in definition.feature_sets if name in theirs.feature_sets),
            *(f"model {name!r}" for name in definition.models if name in theirs.models),
        ]
        if taken:
            found = ", ".join(taken)
            raise Problem(409, "name_taken", f"project {other.project!r} owns {found}; choose another name")


def _topics_are_free(topics: Sequence[ConcreteTopic], known: Sequence[Definition]) -> None:
    """Refuse the platform's own topics, and other partitions than a topic has: keys would move."""
    reserved = {topic.name for topic in fixed()}
    partitions = {topic.name: topic.partitions for old in known for topic in implied_topics(old.content)}
    for topic in topics:
        if topic.name in reserved:
            raise Problem(409, "name_reserved", f"topic {topic.name} is the platform's own; choose another name")
        there = partitions.get(topic.name, topic.partitions)
        if there != topic.partitions:
            detail = f"topic {topic.name} has {there} partitions, {topic.partitions} are asked for"
            raise Problem(409, "partitions_fixed", f"{detail}; keep {there}, or give the source a new name")


async def on_run(book: Book, event: Event) -> None:
    """Register what a run made, judged by the gates of the definition it was made under; note datasets and receipts.

    Raises Rejected when the run refers to a definition, model or feature set that this registry does not hold.
    """
    fact = event.fact
    if isinstance(fact, DatasetBuilt | ReceiptIssued):
        await book.note(event)
    if not isinstance(fact, RunCompleted):
        return
    await book.lock(fact.model)
    versions = await book.versions(fact.model)
    if any(found.fact.run == fact.run for found in versions):
        return
    definition = _definition_of(fact, await book.definitions(fact.definition))
    gates = _judged(fact, in_production(versions), definition.content.models[fact.model].gates)
    people = {fact.requested_by} if not fact.requested_by.startswith(_SERVICES) else set()
    registered = VersionRegistered(
        **fact.model_dump(exclude={"requested_by"}),
        version=len(versions) + 1,
        builders=sorted(definition.applied_by | people),
        gates=[PublishedGate(**asdict(gate)) for gate in gates],
        stage=domain.stage_after(gates),
    )
    await book.record(follow(event.envelope, registered, source=SOURCE))


def _definition_of(run: RunCompleted, found: Sequence[Definition]) -> Definition:
    for definition in found:
        model = definition.content.models.get(run.model)
        if model is None or definition.project != run.project:
            break
        feature_set = definition.content.feature_sets[model.feature_set].id
        if feature_set != run.feature_set:
            raise Rejected(f"run {run.run} read feature set {run.feature_set}, its definition says {feature_set}")
        return definition
    raise Rejected(f"run {run.run}: project {run.project!r} has no model {run.model!r} in definition {run.definition}")


def _judged(run: RunCompleted, incumbent: Registered | None, gates: Gates) -> list[GateResult]:
    try:
        evidence = Evidence.parse(run.evidence)
    except ValueError as fault:
        return [GateResult("evidence", passed=False, figure=None, limit=None, detail=str(fault))]
    return domain.judge(evidence, incumbent.version if incumbent else None, gates)
