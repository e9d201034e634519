"""HTTP: ask for a run, an import or a dataset, look at them."""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from mainstem.auth import Principal, Principals, Right
from mainstem.events.envelope import begin
from mainstem.events.fact import Fact
from mainstem.events.ids import child_id
from mainstem.events.instants import parse, render
from mainstem.events.training import DatasetRequested, TrainingRequested
from mainstem.intake import Limits
from mainstem.runtime import Problem, authenticate, body_bytes, json_body
from mainstem.storage import ArtifactCorrupt, ArtifactMissing, Artifacts
from mainstem.training import imports
from mainstem.training.desk import Command, command_id, now_us, only
from mainstem.training.handlers import SOURCE, Performer
from mainstem.training.history.datasets import check, read_manifest
from mainstem.training.store import PostgresStore

_SEND = 'send {"model": "<name>"}'

_Row = dict[str, object]


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
        #: One file is examined at a time: each may take a processor and half a gigabyte.
        self._gate = asyncio.Lock()

    def routes(self) -> Sequence[BaseRoute]:
        """Return the routes."""
        return [
            Route("/v1/runs", self.start, methods=["POST"]),
            Route("/v1/runs", self.runs),
            Route("/v1/runs/{run}", self.run),
            Route("/v1/models/{model}/imports", self.bring_in, methods=["POST"]),
            Route("/v1/datasets", self.build, methods=["POST"]),
            Route("/v1/datasets", self.datasets),
            Route("/v1/datasets/{dataset}", self.dataset),
            Route("/v1/datasets/{dataset}/check", self.check),
        ]

    async def start(self, request: Request) -> Response:
        """Ask for a run: {"model", "command_id"?, "at"?}. Data and labels recorded before `at` are used."""
        command = await self._command(request, *await self._asked(request))
        return await self._run(command, "request")

    async def bring_in(self, request: Request) -> Response:
        """Ask for a run that imports the ONNX file that is the body, `?command_id=&at=` as in `start`.

        The file passes the gate before anything is recorded: 422 says why it does not.
        """
        principal = authenticate(request, self._principals, Right.BUILD)
        body = {**request.query_params, "model": request.path_params["model"]}
        command = await self._command(request, principal, body)
        content = await body_bytes(request, Limits().bytes)
        definition = await self._store.definition_by_id(command.definition)
        width = len(definition.feature_sets[definition.models[command.model].feature_set].compiled.names)
        async with self._gate:
            await asyncio.to_thread(imports.bring_in, content, width)
        return await self._run(command, "import", await asyncio.to_thread(self._artifacts.put, content))

    async def _run(self, command: Command, cause: str, imported: str | None = None) -> Response:
        fact = TrainingRequested(
            run=child_id(command.id, "run")[:16],
            model=command.model,
            project=command.project,
            cut=command.cut,
            cause=cause,
            requested_by=command.principal.name,
            imported=imported,
        )
        await self._record(command, fact)
        about = {"run": fact.run, "cut": fact.cut}
        return JSONResponse(about if imported is None else {**about, "imported": imported}, 202)

    async def build(self, request: Request) -> Response:
        """Ask for a dataset: {"model", "command_id"?, "at"?}. Data and labels recorded before `at` are in it.

        Or for one that is there, to be built anew: {"again", "command_id"?}, where `again` is its id or the beginning.
        It is built by the definition that it was built by, whatever its model reads by now.
        """
        principal, body = await self._asked(request)
        if body.get("again") is None:
            command = await self._command(request, principal, body)
        else:
            command = await self._again(principal, body)
        fact = DatasetRequested(
            request=child_id(command.id, "dataset")[:16],
            model=command.model,
            project=command.project,
            definition=command.definition,
            cut=command.cut,
            requested_by=command.principal.name,
        )
        await self._record(command, fact)
        again = {} if command.again is None else {"again": command.again}
        return JSONResponse({"request": fact.request, "cut": fact.cut, **again}, 202)

    async def _asked(self, request: Request) -> tuple[Principal, Mapping[str, object]]:
        """Return who asks, and the body; raise Problem for who may not, and for what is no object."""
        principal = authenticate(request, self._principals, Right.BUILD)
        body = await json_body(request)
        if not isinstance(body, Mapping):
            raise Problem(400, "model_missing", _SEND)
        return principal, body

    async def _command(self, request: Request, principal: Principal, body: Mapping[str, object]) -> Command:
        """Return what is asked for a model; raise Problem for what there is not, and for a time one may not say."""
        if not isinstance(body.get("model"), str):
            raise Problem(400, "model_missing", _SEND)
        model = str(body["model"])
        owner = await self._store.owner(model)
        if owner is None:
            raise Problem(404, "unknown_model", f"no applied project declares model {model!r}")
        recorded_us = self._recorded(request, body)
        return Command(command_id(body), principal, model, *owner, render(recorded_us), recorded_us)

    async def _again(self, principal: Principal, body: Mapping[str, object]) -> Command:
        """Return what is asked for a dataset that is to be built anew; raise Problem when there is none."""
        if not isinstance(body["again"], str) or not body.keys() <= {"again", "command_id"}:
            detail = 'send {"again": "<dataset>"} alone: the dataset says of which model it is, and its cut'
            raise Problem(400, "malformed_body", detail)
        dataset, _ = await self._find(body["again"])
        if dataset is None:
            wanted = body["again"]
            raise Problem(404, "unknown_dataset", f"request {wanted!r} has led to no dataset; ask for its model anew")
        return Command(
            id=command_id(body),
            principal=principal,
            model=str(dataset["model"]),
            project=str(dataset["project"]),
            definition=str(dataset["definition"]),
            cut=str(dataset["cut"]),
            recorded_us=now_us(),
            again=str(dataset["dataset"]),
        )

    async def _record(self, command: Command, fact: Fact) -> None:
        event = begin(
            fact, command_id=command.id, source=SOURCE, actor=command.principal.name, recorded_us=command.recorded_us
        )
        await self._store.record([event])

    def _recorded(self, request: Request, body: Mapping[str, object]) -> int:
        """Return now, or the time that somebody who may replay history gives."""
        if body.get("at") is None:
            return now_us()
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
        name = only(wanted, [*datasets, *requests])
        if name in datasets:
            return datasets[name], None
        asked = self._as_it_stands(requests[name])
        return datasets.get(str(asked["dataset"])), asked

    def _as_it_stands(self, request: _Row) -> _Row:
        name = str(request["request"])
        read, there = self._performer.progress.get(name, (None, None))
        return {**request, "waiting": self._performer.waiting.get(name), "read": read, "of": there}
