"""Where people decide on the versions of a model, one command at a time."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from mainstem.auth import Principal, Role
from mainstem.events.envelope import Envelope, Event, begin
from mainstem.events.fact import Fact
from mainstem.events.ids import child_id
from mainstem.events.instants import parse, render
from mainstem.events.registry import ChangeRefused, DeploymentSet, VersionApproved, VersionPromoted
from mainstem.registry import domain
from mainstem.registry.domain import Promotion, Refusal, Stage, Version
from mainstem.registry.ports import Book, Registered
from mainstem.runtime import Problem

SOURCE = "/mainstem/registry"
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
        #: What the command led to, in order.
        self.events: list[Event] = []
        self._last: Envelope | None = None

    @property
    def facts(self) -> list[Fact]:
        """Return the facts that the command led to."""
        return [event.fact for event in self.events]

    async def approve(self, number: int, *, onnx: str | None, comment: str, promote: bool) -> list[Fact]:
        """Approve the digest `onnx`, by default the version's; then, if asked, promote it if its tier lets it be."""
        if await self._repeated(f"approve:{number}"):
            return self.facts
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
        return self.facts

    async def promote(self, number: int) -> list[Fact]:
        """Put an approved candidate into production."""
        if not await self._repeated(f"promote:{number}"):
            found = self._version(number)
            await self._promote(found, found.version, self._command.principal)
        return self.facts

    async def roll_back(self, number: int | None) -> list[Fact]:
        """Put an archived version back into production, by default the one before the version that is there.

        Raises Problem 409 when none is.
        """
        if await self._repeated(f"rollback:{number}"):
            return self.facts
        current = in_production(self._versions)
        if current is None:
            raise Problem(409, "nothing_in_production", f"no version of {self._model!r} is in production; promote one")
        target = self._before(current) if number is None else self._version(number)
        if target is None:
            reason = f"no version before {current.version.label} was in production; name the version to go back to"
            return await self._refuse(current, "rollback", Refusal("no_version_before", reason))
        decided = await self._if_fed(target, domain.roll_back(target.version, current.version, self._command.principal))
        if isinstance(decided, Refusal):
            return await self._refuse(target, "rollback", decided)
        await self._deploy(target, decided)
        return self.facts

    async def _repeated(self, request: str) -> bool:
        """Take the model's lock; find what the command led to before, or else the versions it is about."""
        await self._book.lock(self._model)
        self._scope = self._command.scope(f"{self._model}:{request}")
        earlier = [await self._book.find(child_id(self._scope, kind.TYPE)) for kind in _OUTCOMES]
        self.events = [event for event in earlier if event]
        self._versions = await self._book.versions(self._model)
        self._deployment = await self._book.deployment(self._model)
        return bool(self.events)

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
        incumbent = in_production(self._versions)
        tier = definition.content.charter.risk.tier
        now = incumbent.version if incumbent else None
        decided = _held_back(version) or domain.promote(version, now, principal, tier)
        decided = await self._if_fed(found, decided)
        if isinstance(decided, Refusal):
            await self._refuse(found, "promote", decided)
        else:
            await self._deploy(found, decided)

    async def _if_fed(self, found: Registered, decided: Promotion | Refusal) -> Promotion | Refusal:
        """Let a promotion be one only if the project in force computes the feature set that the version reads."""
        project, reads = found.fact.project, found.fact.feature_set
        in_force = [known.definition_id for known in await self._book.projects() if known.name == project]
        sets = [
            part.id
            for id_ in in_force
            for known in await self._book.definitions(id_)
            for part in known.content.feature_sets.values()
        ]
        if isinstance(decided, Refusal) or reads in sets:
            return decided
        reason = f"{found.version.label} reads feature set {reads}, which project {project!r} computes no more"
        return Refusal("feature_set_gone", f"{reason}; apply a definition that declares it, or train another version")

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
        return self.facts

    async def _record(self, found: Registered, fact: Fact) -> None:
        """Record a fact in the story of the version, caused by the fact before it."""
        command = replace(self._command, recorded_us=self._recorded_us(found))
        event = commanded(command, self._scope, fact)
        causation = self._last.id if self._last else command.id
        self._last = replace(event.envelope, correlation=found.correlation, causation=causation)
        event = Event(self._last, fact)
        await self._book.record(event)
        self.events.append(event)

    def _recorded_us(self, found: Registered) -> int:
        known = [found.recorded_time] + ([self._deployment.effective_from] if self._deployment else [])
        return max(self._command.recorded_us, *map(parse, known))


def unknown_version(model: str, number: int | str) -> Problem:
    """Return the answer to a version that nobody registered."""
    detail = f"model {model!r} has no version {number}; GET /v1/models/{model} lists them"
    return Problem(404, "unknown_version", detail)


def _held_back(version: Version) -> Refusal | None:
    """Name the gates that refused a version, so that the answer has their figures and not only its stage."""
    if version.stage is not Stage.REFUSED:
        return None
    figures = "; ".join(gate.detail for gate in version.gates if not gate.passed)
    return Refusal("gates", f"{version.label} did not pass: {figures}; start a new run")


def in_production(versions: Sequence[Registered]) -> Registered | None:
    """Return the version that is in production, or None."""
    return next((found for found in versions if found.version.stage is Stage.PRODUCTION), None)


def commanded(command: Command, scope: str, fact: Fact) -> Event:
    """Return the event a command led to; its id is derived from the scope."""
    recorded_us = command.recorded_us
    event = begin(fact, command_id=scope, source=SOURCE, actor=command.principal.name, recorded_us=recorded_us)
    return Event(replace(event.envelope, correlation=command.id, causation=command.id), fact)
