"""Definitions come into force, runs are judged: each a transaction on the book."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from mainstem.events.envelope import Event, follow
from mainstem.events.errors import Rejected
from mainstem.events.ids import child_id
from mainstem.events.registry import GateResult as PublishedGate
from mainstem.events.registry import ProjectApplied, VersionRegistered
from mainstem.events.topics import ConcreteTopic, fixed, member
from mainstem.events.training import RunCompleted
from mainstem.project.definition import ProjectDefinition
from mainstem.project.model import Gates
from mainstem.registry import domain
from mainstem.registry.desk import SOURCE, Command, commanded, in_production
from mainstem.registry.domain import Evidence, GateResult
from mainstem.registry.ports import Book, CreateTopics, Definition, Registered
from mainstem.runtime import Problem

#: Actors that begin like this are services of ours, not people.
_SERVICES = "/mainstem/"


@dataclass(frozen=True, slots=True)
class Application:
    """What became of a definition that was handed in."""

    project: str
    definition_id: str
    unchanged: bool


async def implied_command(book: Book, definition: ProjectDefinition) -> str:
    """Return the id of an application that came without one: what it replaces and what it brings."""
    name = definition.charter.name
    before = [project.event_id for project in await book.projects() if project.name == name]
    return child_id(before[0] if before else name, definition.id)


async def apply_project(
    book: Book, create: CreateTopics, definition: ProjectDefinition, command: Command
) -> Application:
    """Put a definition in force, its topics created first; nothing happens when it is in force already.

    Raises Problem 409 when a name or a topic is not the project's to take.
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
    others = [other for other in known if other.project != name and other.definition_id in in_force.values()]
    _names_are_free(definition, others)
    topics = implied_topics(definition)
    _topics_are_free(topics, known)
    await create(topics)
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
        *(member("evt.feature.{feature_set}", name, partitions) for name, partitions in spines.items()),
        *(member("tel.prediction.{model}", m.name, spines[m.feature_set]) for m in definition.models.values()),
    ]


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
    """Register what a run made, judged by the gates of the definition it was made under.

    Raises Rejected when the run refers to a definition, model or feature set that this registry does not hold.
    """
    fact = event.fact
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
