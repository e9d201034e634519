"""HTTP: projects in, decisions on versions, and what stands in the book."""

import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import Annotated, TypeVar

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from mainstem.auth import Principal, Principals, Right, allows
from mainstem.events.errors import faults
from mainstem.events.fact import Fact
from mainstem.events.instants import parse, render
from mainstem.events.registry import ChangeRefused, DeploymentSet
from mainstem.project.definition import parse as parse_definition
from mainstem.registry import views
from mainstem.registry.desk import Command, Desk, unknown_version
from mainstem.registry.domain import ROLE_RULES
from mainstem.registry.handlers import Pinned, apply_project, implied_command, implied_topics
from mainstem.registry.ports import Book, Broker, Prove, Store
from mainstem.runtime import Problem, authenticate, body_bytes, identify, problem

CommandId = Annotated[str, Field(min_length=1, max_length=200)]


class _Timed(BaseModel):
    """What every command may say: the time at which it became known (RFC 3339)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    at: str | None = None


class _Apply(_Timed):
    command_id: CommandId | None = None
    definition: dict[str, JsonValue]


class _Change(_Timed):
    command_id: CommandId


class _Approve(_Change):
    onnx: str | None = None
    comment: str = Field(default="", max_length=2_000)
    promote: bool = True


class _RollBack(_Change):
    to: int | None = None


Body = TypeVar("Body", bound=BaseModel)
Outcome = TypeVar("Outcome", bound=Fact)


class Api:
    """The routes, and what they need."""

    def __init__(self, store: Store, principals: Principals, broker: Broker, prove: Prove) -> None:
        self._store = store
        self._principals = principals
        self._broker = broker
        self._prove = prove

    def routes(self) -> Sequence[BaseRoute]:
        """Return the routes."""
        version = "/v1/models/{model}/versions/{version}"
        return [
            Route("/v1/projects", self.apply, methods=["POST"]),
            Route("/v1/projects", self.projects),
            Route("/v1/projects/{project}", self.project),
            Route("/v1/models", self.models),
            Route("/v1/models/{model}", self.model),
            Route("/v1/models/{model}/rollback", self.roll_back, methods=["POST"]),
            Route(version, self.version),
            Route(f"{version}/approve", self.approve, methods=["POST"]),
            Route(f"{version}/promote", self.promote, methods=["POST"]),
        ]

    async def apply(self, request: Request) -> Response:
        """Put a definition in force: 201, or 200 when it is already; 409 with `impact` when it may not change so."""
        principal = authenticate(request, self._principals, Right.BUILD)
        body = await _read(request, _Apply)
        definition = parse_definition(body.definition)
        async with self._store.transaction() as book:
            command_id = body.command_id or await implied_command(book, definition)
            command = Command(command_id, principal, _recorded_us(principal, body.at))
            done = await apply_project(book, self._broker, definition, command)
        if isinstance(done, Pinned):
            return JSONResponse(views.pinned(done.detail, done.impact), 409, media_type="application/problem+json")
        answer = {
            "project": done.project,
            "definition_id": done.definition_id,
            "unchanged": done.unchanged,
            "topics": [topic.name for topic in implied_topics(definition)],
        }
        return JSONResponse(answer, 200 if done.unchanged else 201)

    async def projects(self, _: Request) -> Response:
        """List the definitions in force."""
        async with self._store.transaction() as book:
            return JSONResponse({"projects": [views.project(project) for project in await book.projects()]})

    async def project(self, request: Request) -> Response:
        """Show one project with its definition."""
        name = request.path_params["project"]
        async with self._store.transaction() as book:
            for project in await book.projects():
                if project.name == name:
                    (found,) = await book.definitions(project.definition_id)
                    return JSONResponse({**views.project(project), "definition": found.content.model_dump(mode="json")})
        raise Problem(404, "unknown_project", f"no project {name!r}; GET /v1/projects lists them")

    async def models(self, _: Request) -> Response:
        """List the models of all projects in force, with how their versions stand."""
        async with self._store.transaction() as book:
            owners = await _owners(book)
            versions = await book.versions()
        return JSONResponse({"models": [views.model(*owned, versions) for owned in sorted(owners.items())]})

    async def model(self, request: Request) -> Response:
        """Show one model: what may serve, its versions, what was refused."""
        model = request.path_params["model"]
        async with self._store.transaction() as book:
            owner = (await _owners(book)).get(model)
            versions = await book.versions(model)
            deployment = await book.deployment(model)
            refusals = await book.refusals(model)
        if owner is None and not versions:
            raise Problem(404, "unknown_model", f"no model {model!r}; GET /v1/models lists them")
        answer = {
            "model": model,
            "project": owner or versions[-1].fact.project,
            "deployment": deployment and deployment.model_dump(mode="json"),
            "versions": [views.summary(found) for found in versions],
            "refusals": refusals,
        }
        return JSONResponse(answer)

    async def version(self, request: Request) -> Response:
        """Show one version: evidence, gates, builders, approvals, refusals."""
        model, number = _version(request)
        async with self._store.transaction() as book:
            found = [version for version in await book.versions(model) if version.version.number == number]
            approvals = [row for row in await book.approvals(model) if row["number"] == number]
            refusals = [row for row in await book.refusals(model) if row["number"] == number]
        if not found:
            raise unknown_version(model, number)
        (version,) = found
        return JSONResponse({**views.version(version), "approvals": approvals, "refusals": refusals})

    async def approve(self, request: Request) -> Response:
        """Approve a version and, unless told not to, promote it; 403 or 409 names the rule that forbids it."""
        principal = identify(request, self._principals)
        model, number = _version(request)
        body = await _read(request, _Approve)
        command = _command(principal, body)
        async with self._store.transaction() as book:
            desk = Desk(book, command, model)
            await desk.approve(number, onnx=body.onnx, comment=body.comment, promote=body.promote)
        return await self._answer(desk)

    async def promote(self, request: Request) -> Response:
        """Put an approved version into production; 403 or 409 names the rule that forbids it."""
        principal = identify(request, self._principals)
        model, number = _version(request)
        command = _command(principal, await _read(request, _Change))
        async with self._store.transaction() as book:
            desk = Desk(book, command, model)
            await desk.promote(number)
        return await self._answer(desk)

    async def roll_back(self, request: Request) -> Response:
        """Put the version before, or the one named `to`, back into production."""
        principal = identify(request, self._principals)
        body = await _read(request, _RollBack)
        command = _command(principal, body)
        async with self._store.transaction() as book:
            desk = Desk(book, command, request.path_params["model"])
            await desk.roll_back(body.to)
        return await self._answer(desk)

    async def _answer(self, desk: Desk) -> Response:
        """Return what a command led to, once it is proved to be in the log (503 when that takes too long).

        A problem when it led to nothing but a refusal, which is on record.
        """
        proved = await self._prove(desk.events)
        facts = desk.facts
        refused, deployed = _one(facts, ChangeRefused), _one(facts, DeploymentSet)
        if refused and len(facts) == 1:
            return problem(403 if refused.rule in ROLE_RULES else 409, refused.rule, refused.reason)
        answer = {
            "facts": [{"type": fact.TYPE, **fact.model_dump(mode="json")} for fact in facts],
            "promoted": deployed is not None,
            "effective_from": deployed.effective_from if deployed else None,
            "refused": {"rule": refused.rule, "reason": refused.reason} if refused else None,
            "evidence": [asdict(each) for each in proved],
        }
        return JSONResponse(answer)


async def _read(request: Request, kind: type[Body]) -> Body:
    raw = await body_bytes(request)
    if b"\\u0000" in raw:
        raise Problem(400, "malformed_body", "the body holds the character U+0000, which is no text; leave it out")
    try:
        return kind.model_validate_json(raw)
    except ValidationError as fault:
        raise Problem(400, "malformed_body", f"the body is not what this call takes: {faults(fault)}") from fault


def _command(principal: Principal, body: _Change) -> Command:
    return Command(body.command_id, principal, _recorded_us(principal, body.at))


def _recorded_us(principal: Principal, at: str | None) -> int:
    """Return when a command became known: now, or when a principal who may replay history says it was."""
    if at is None:
        return time.time_ns() // 1_000
    if not allows(principal, Right.REPLAY):
        raise Problem(403, "not_allowed", f"{principal.name} has not the right 'replay'; leave `at` out")
    try:
        return parse(render(parse(at)))
    except (ValueError, OverflowError) as fault:
        raise Problem(400, "bad_instant", f"`at` is {at!r}, no RFC 3339 instant with an offset: {fault}") from fault


def _version(request: Request) -> tuple[str, int]:
    model, number = request.path_params["model"], request.path_params["version"]
    if not (number.isascii() and number.isdecimal()) or len(number) > 9:
        raise unknown_version(model, number)
    return model, int(number)


async def _owners(book: Book) -> dict[str, str]:
    """Return the project of each model that is declared now."""
    in_force = {project.definition_id for project in await book.projects()}
    definitions = [known for known in await book.definitions() if known.definition_id in in_force]
    return {model: known.project for known in definitions for model in known.content.models}


def _one(facts: Sequence[Fact], kind: type[Outcome]) -> Outcome | None:
    return next((fact for fact in facts if isinstance(fact, kind)), None)
