"""HTTP: ask for a run or a dataset, look at them."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from uuid import uuid4

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from mainstem.auth import Principal, Principals, Right
from mainstem.events.envelope import Fact, begin
from mainstem.events.ids import child_id
from mainstem.events.instants import parse, render
from mainstem.events.training import DatasetRequested, TrainingRequested
from mainstem.runtime import Problem, authenticate, json_body
from mainstem.storage import ArtifactCorrupt, ArtifactMissing, Artifacts
from mainstem.training.handlers import SOURCE, Performer
from mainstem.training.history.datasets import check, read_manifest
from mainstem.training.store import PostgresStore

_LONGEST_ID = 200

_Row = dict[str, object]


@dataclass(frozen=True, slots=True)
class _Command:
    """What somebody asks for: a model of a project in force, as it was known at a time."""

    id: str
    principal: Principal
    model: str
    project: str
    definition: str
    recorded_us: int


class Api:
    """The routes, and what they need."""

    def __init__(
        self, store: PostgresStore, principals: Principals, artifacts: Artifacts, performer: Performer
    ) -> None:
        """Answer from the store; the performer says what is waited for, and how far it is, at the moment."""
        self._store = store
        self._principals = principals
        self._artifacts = artifacts
        self._performer = performer

    def routes(self) -> Sequence[BaseRoute]:
        """Return the routes."""
        return [
            Route("/v1/runs", self.start, methods=["POST"]),
            Route("/v1/runs", self.runs),
            Route("/v1/runs/{run}", self.run),
            Route("/v1/datasets", self.build, methods=["POST"]),
            Route("/v1/datasets", self.datasets),
            Route("/v1/datasets/{dataset}", self.dataset),
            Route("/v1/datasets/{dataset}/check", self.check),
        ]

    async def start(self, request: Request) -> Response:
        """Ask for a run: {"model", "command_id"?, "at"?}. Data and labels recorded before `at` are used."""
        command = await self._command(request)
        fact = TrainingRequested(
            run=child_id(command.id, "run")[:16],
            model=command.model,
            project=command.project,
            cut=render(command.recorded_us),
            cause="request",
            requested_by=command.principal.name,
        )
        await self._record(command, fact)
        return JSONResponse({"run": fact.run, "cut": fact.cut}, 202)

    async def build(self, request: Request) -> Response:
        """Ask for a dataset: {"model", "command_id"?, "at"?}. Data and labels recorded before `at` are in it."""
        command = await self._command(request)
        fact = DatasetRequested(
            request=child_id(command.id, "dataset")[:16],
            model=command.model,
            project=command.project,
            definition=command.definition,
            cut=render(command.recorded_us),
            requested_by=command.principal.name,
        )
        await self._record(command, fact)
        return JSONResponse({"request": fact.request, "cut": fact.cut}, 202)

    async def _command(self, request: Request) -> _Command:
        """Return who asks for what; raise Problem for who may not, and for what there is not."""
        principal = authenticate(request, self._principals, Right.BUILD)
        body = await json_body(request)
        if not isinstance(body, Mapping) or not isinstance(body.get("model"), str):
            raise Problem(400, "model_missing", 'send {"model": "<name>"}')
        owner = await self._store.owner(body["model"])
        if owner is None:
            raise Problem(404, "unknown_model", f"no applied project declares model {body['model']!r}")
        recorded_us = self._recorded(request, body)
        command_id = str(body.get("command_id") or uuid4().hex)
        if len(command_id) > _LONGEST_ID:
            raise Problem(400, "malformed_body", f"command_id has {len(command_id)} characters, at most {_LONGEST_ID}")
        return _Command(command_id, principal, body["model"], *owner, recorded_us)

    async def _record(self, command: _Command, fact: Fact) -> None:
        event = begin(
            fact, command_id=command.id, source=SOURCE, actor=command.principal.name, recorded_us=command.recorded_us
        )
        await self._store.record([event])

    def _recorded(self, request: Request, body: Mapping[str, object]) -> int:
        """Return now, or the time that somebody who may replay history gives."""
        if body.get("at") is None:
            return time.time_ns() // 1000
        authenticate(request, self._principals, Right.REPLAY)
        try:
            return parse(str(body["at"]))
        except ValueError as fault:
            raise Problem(400, "bad_instant", f"at: {fault}") from fault

    async def runs(self, _: Request) -> Response:
        """List all runs."""
        return JSONResponse({"runs": await self._store.runs()})

    async def run(self, request: Request) -> Response:
        """Show one run with its steps; the id may be shortened to a unique prefix."""
        wanted = request.path_params["run"]
        found = [run for run in await self._store.runs() if str(run["run"]).startswith(wanted)]
        if len(found) != 1:
            raise Problem(404, "unknown_run", f"{len(found)} runs begin with {wanted!r}; list them with /v1/runs")
        run = str(found[0]["run"])
        waiting = self._performer.waiting.get(run)
        return JSONResponse({**found[0], "waiting": waiting, "steps": await self._store.steps(run)})

    async def datasets(self, _: Request) -> Response:
        """List all datasets, and the requests that led to none yet."""
        requests = [self._as_it_stands(row) for row in await self._store.requests() if row["dataset"] is None]
        return JSONResponse({"datasets": await self._store.datasets(), "requests": requests})

    async def dataset(self, request: Request) -> Response:
        """Show a dataset with its manifest, or how a request for one stands, by a unique prefix of either's id."""
        dataset, asked = await self._find(request.path_params["dataset"])
        manifest = None
        if dataset is not None:
            with suppress(ArtifactMissing, ArtifactCorrupt):
                manifest = await asyncio.to_thread(read_manifest, self._artifacts, str(dataset["dataset"]))
        return JSONResponse({"dataset": dataset, "request": asked, "manifest": manifest})

    async def check(self, request: Request) -> Response:
        """Read the files of a dataset, hash its rows anew, and tell whether they are what the manifest says."""
        dataset, _ = await self._find(request.path_params["dataset"])
        if dataset is None:
            wanted = request.path_params["dataset"]
            raise Problem(
                404, "unknown_dataset", f"request {wanted!r} has led to no dataset; see /v1/datasets/{wanted}"
            )
        verdict, found = await asyncio.to_thread(
            check, self._artifacts, str(dataset["dataset"]), str(dataset["parquet"])
        )
        return JSONResponse({"dataset": dataset["dataset"], "verdict": verdict, "found": found})

    async def _find(self, wanted: str) -> tuple[_Row | None, _Row | None]:
        """Return the one dataset whose address begins like that, or the one request and the dataset it led to."""
        datasets = {str(row["dataset"]): row for row in await self._store.datasets()}
        requests = {str(row["request"]): row for row in await self._store.requests()}
        name = _only(wanted, [*datasets, *requests])
        if name in datasets:
            return datasets[name], None
        asked = self._as_it_stands(requests[name])
        return datasets.get(str(asked["dataset"])), asked

    def _as_it_stands(self, request: _Row) -> _Row:
        name = str(request["request"])
        read, there = self._performer.progress.get(name, (None, None))
        return {**request, "waiting": self._performer.waiting.get(name), "read": read, "of": there}


def _only(wanted: str, names: Sequence[str]) -> str:
    """Return the one name that begins like that, `sha256:` or not; raise Problem 404 when there is not one."""
    found = [name for name in names if name.startswith(wanted) or name.removeprefix("sha256:").startswith(wanted)]
    if len(found) == 1:
        return found[0]
    if not found:
        detail = f"no dataset and no request begins with {wanted!r}; list them with `mainstem dataset list`"
    else:
        several = f"{len(found)} datasets and requests begin with {wanted!r}"
        detail = f"{several}: {', '.join(found[:5])}; give more of the id"
    raise Problem(404, "unknown_dataset", detail)
