"""Definitions come into force, runs are judged, people decide: each a transaction on the book."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

from mainstem.auth import Principal, Role
from mainstem.events.envelope import Envelope, Event, Fact, begin, follow
from mainstem.events.errors import Rejected
from mainstem.events.ids import child_id
from mainstem.events.instants import parse, render
from mainstem.events.registry import (
    ChangeRefused,
    DeploymentSet,
    ProjectApplied,
    VersionApproved,
    VersionPromoted,
    VersionRegistered,
)
from mainstem.events.registry import GateResult as PublishedGate
from mainstem.events.topics import ConcreteTopic, fixed, member
from mainstem.events.training import RunCompleted
from mainstem.project.definition import ProjectDefinition
from mainstem.project.model import Gates
from mainstem.registry import domain
from mainstem.registry.domain import Evidence, GateResult, Promotion, Refusal, Stage, Version
from mainstem.registry.ports import Book, CreateTopics, Definition, Registered
from mainstem.runtime import Problem

SOURCE = "/mainstem/registry"
#: Actors that begin like this are services of ours, not people.
_SERVICES = "/mainstem/"
#: What a command on a version can lead to, at most once each.
_OUTCOMES = (VersionApproved, VersionPromoted, DeploymentSet, ChangeRefused)


@dataclass(frozen=True, slots=True)
class Command:
    """Something asked for once: asked again with the same id by the same principal it is the same command."""

    id: str
    principal: Principal
    recorded_us: int

    def scope(self, request: str) -> str:
        """Return what the ids of its events are derived from; the same id for another request is another command."""
        return child_id(self.id, f"{self.principal.name}:{request}")


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
    await book.record(_commanded(command, scope, fact))
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
    gates = _judged(fact, _in_production(versions), definition.content.models[fact.model].gates)
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


def _held_back(version: Version) -> Refusal | None:
    """Name the gates that refused a version, so that the answer has their figures and not only its stage."""
    if version.stage is not Stage.REFUSED:
        return None
    figures = "; ".join(gate.detail for gate in version.gates if not gate.passed)
    return Refusal("gates", f"{version.label} did not pass: {figures}; start a new run")


def _in_production(versions: Sequence[Registered]) -> Registered | None:
    return next((found for found in versions if found.version.stage is Stage.PRODUCTION), None)


def _commanded(command: Command, scope: str, fact: Fact) -> Event:
    """Return the event a command led to; its id is derived from the scope."""
    recorded_us = command.recorded_us
    event = begin(fact, command_id=scope, source=SOURCE, actor=command.principal.name, recorded_us=recorded_us)
    return Event(replace(event.envelope, correlation=command.id, causation=command.id), fact)


class Desk:
    """Where one command on the versions of one model is decided; a desk takes one command.

    Every method returns the facts it led to, the same ones when the command is repeated: a lone ChangeRefused when a
    rule forbade it. They are recorded at the command's time, or later when what they decide upon is recorded later.
    Raises Problem 404 for a version that does not exist.
    """

    def __init__(self, book: Book, command: Command, model: str) -> None:
        self._book = book
        self._command = command
        self._model = model
        self._scope = ""
        self._versions: list[Registered] = []
        self._deployment: DeploymentSet | None = None
        self._facts: list[Fact] = []
        self._last: Envelope | None = None

    async def approve(self, number: int, *, onnx: str | None, comment: str, promote: bool) -> list[Fact]:
        """Approve the digest `onnx`, by default the version's; then, if asked, promote it if its tier lets it be."""
        if await self._repeated(f"approve:{number}"):
            return self._facts
        found, principal = self._version(number), self._command.principal
        decided = _held_back(found.version) or domain.approve(found.version, principal, onnx or found.version.onnx)
        if isinstance(decided, Refusal):
            return await self._refuse(found, "approve", decided)
        await self._record(
            found,
            VersionApproved(
                model=self._model, version=number, onnx=decided.onnx, approved_by=principal.name, comment=comment
            ),
        )
        if promote:
            # An approval may ask for its consequence; that a high tier wants a third person for it still holds.
            await self._promote(found, decided, replace(principal, roles=principal.roles | {Role.OPERATOR}))
        return self._facts

    async def promote(self, number: int) -> list[Fact]:
        """Put an approved candidate into production."""
        if not await self._repeated(f"promote:{number}"):
            found = self._version(number)
            await self._promote(found, found.version, self._command.principal)
        return self._facts

    async def roll_back(self, number: int | None) -> list[Fact]:
        """Put an archived version back into production, by default the one before the version that is there.

        Raises Problem 409 when none is.
        """
        if await self._repeated(f"rollback:{number}"):
            return self._facts
        current = _in_production(self._versions)
        if current is None:
            raise Problem(409, "nothing_in_production", f"no version of {self._model!r} is in production; promote one")
        target = self._before(current) if number is None else self._version(number)
        if target is None:
            reason = f"no version before {current.version.label} was in production; name the version to go back to"
            return await self._refuse(current, "rollback", Refusal("no_version_before", reason))
        decided = domain.roll_back(target.version, current.version, self._command.principal)
        if isinstance(decided, Refusal):
            return await self._refuse(target, "rollback", decided)
        await self._deploy(target, decided)
        return self._facts

    async def _repeated(self, request: str) -> bool:
        """Take the model's lock; find what the command led to before, or else the versions it is about."""
        await self._book.lock(self._model)
        self._scope = self._command.scope(f"{self._model}:{request}")
        earlier = [await self._book.find(child_id(self._scope, kind.TYPE)) for kind in _OUTCOMES]
        self._facts = [event.fact for event in earlier if event]
        self._versions = await self._book.versions(self._model)
        self._deployment = await self._book.deployment(self._model)
        return bool(self._facts)

    def _version(self, number: int) -> Registered:
        for found in self._versions:
            if found.version.number == number:
                return found
        raise unknown_version(self._model, number)

    def _before(self, current: Registered) -> Registered | None:
        """Return the latest archived version before it, never a later one: rolling back twice goes back twice."""
        stages = {found.version.number: found for found in self._versions if found.version.stage is Stage.ARCHIVED}
        earlier = [number for number in stages if number < current.version.number]
        return stages[max(earlier)] if earlier else None

    async def _promote(self, found: Registered, version: Version, principal: Principal) -> None:
        (definition,) = await self._book.definitions(found.fact.definition)
        incumbent = _in_production(self._versions)
        tier = definition.content.charter.risk.tier
        now = incumbent.version if incumbent else None
        decided = _held_back(version) or domain.promote(version, now, principal, tier)
        if isinstance(decided, Refusal):
            await self._refuse(found, "promote", decided)
        else:
            await self._deploy(found, decided)

    async def _deploy(self, found: Registered, promotion: Promotion) -> None:
        version, fact = promotion.version, found.fact
        replaces = promotion.replaces.number if promotion.replaces else None
        name = self._command.principal.name
        await self._record(
            found, VersionPromoted(model=version.model, version=version.number, replaces=replaces, promoted_by=name)
        )
        (definition,) = await self._book.definitions(fact.definition)
        feature_set = definition.content.models[version.model].feature_set
        deployment = DeploymentSet(
            model=version.model,
            version=version.number,
            project=fact.project,
            onnx=version.onnx,
            profile=fact.profile,
            feature_set=feature_set,
            feature_definition=fact.feature_set,
            features=list(definition.content.feature_sets[feature_set].compiled.names),
            approved_by=version.approved_by[-1],
            effective_from=render(self._recorded_us(found)),
        )
        await self._record(found, deployment)

    async def _refuse(self, found: Registered, request: str, refusal: Refusal) -> list[Fact]:
        await self._record(
            found,
            ChangeRefused(
                model=self._model,
                version=found.version.number,
                request=request,
                requested_by=self._command.principal.name,
                rule=refusal.rule,
                reason=refusal.reason,
            ),
        )
        return self._facts

    async def _record(self, found: Registered, fact: Fact) -> None:
        """Record a fact in the story of the version, caused by the fact before it."""
        command = replace(self._command, recorded_us=self._recorded_us(found))
        event = _commanded(command, self._scope, fact)
        causation = self._last.id if self._last else command.id
        self._last = replace(event.envelope, correlation=found.correlation, causation=causation)
        await self._book.record(Event(self._last, fact))
        self._facts.append(fact)

    def _recorded_us(self, found: Registered) -> int:
        known = [found.recorded_time] + ([self._deployment.effective_from] if self._deployment else [])
        return max(self._command.recorded_us, *map(parse, known))


def unknown_version(model: str, number: int | str) -> Problem:
    """Return the answer to a version that nobody registered."""
    detail = f"model {model!r} has no version {number}; GET /v1/models/{model} lists them"
    return Problem(404, "unknown_version", detail)
