"""HTTP: ask for a run, look at runs."""

import time
from collections.abc import Mapping, Sequence
from uuid import uuid4

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from mainstem.auth import Principals, Right
from mainstem.events.envelope import begin
from mainstem.events.ids import child_id
from mainstem.events.instants import parse, render
from mainstem.events.training import TrainingRequested
from mainstem.runtime import Problem, authenticate, json_body
from mainstem.training.handlers import SOURCE
from mainstem.training.store import PostgresStore

_LONGEST_ID = 200


class Api:
    """The routes, and what they need."""

    def __init__(self, store: PostgresStore, principals: Principals, waiting: Mapping[str, str]) -> None:
        """Answer from the store; `waiting` says what runs wait for, by run, at the moment."""
        self._store = store
        self._waiting = waiting
        self._principals = principals

    def routes(self) -> Sequence[BaseRoute]:
        """Return the routes."""
        return [
            Route("/v1/runs", self.start, methods=["POST"]),
            Route("/v1/runs", self.listing),
            Route("/v1/runs/{run}", self.show),
        ]

    async def start(self, request: Request) -> Response:
        """Ask for a run: {"model", "command_id"?, "at"?}. Data and labels recorded before `at` are used."""
        principal = authenticate(request, self._principals, Right.BUILD)
        body = await json_body(request)
        if not isinstance(body, Mapping) or not isinstance(body.get("model"), str):
            raise Problem(400, "model_missing", 'send {"model": "<name>"}')
        project = await self._store.owner(body["model"])
        if project is None:
            raise Problem(404, "unknown_model", f"no applied project declares model {body['model']!r}")
        recorded_us = self._recorded(request, body)
        command_id = str(body.get("command_id") or uuid4().hex)
        if len(command_id) > _LONGEST_ID:
            raise Problem(400, "malformed_body", f"command_id has {len(command_id)} characters, at most {_LONGEST_ID}")
        fact = TrainingRequested(
            run=child_id(command_id, "run")[:16],
            model=body["model"],
            project=project,
            cut=render(recorded_us),
            cause="request",
            requested_by=principal.name,
        )
        event = begin(fact, command_id=command_id, source=SOURCE, actor=principal.name, recorded_us=recorded_us)
        await self._store.record([event])
        return JSONResponse({"run": fact.run, "cut": fact.cut}, 202)

    def _recorded(self, request: Request, body: Mapping[str, object]) -> int:
        """Return now, or the time that somebody who may replay history gives."""
        if body.get("at") is None:
            return time.time_ns() // 1000
        authenticate(request, self._principals, Right.REPLAY)
        try:
            return parse(str(body["at"]))
        except ValueError as fault:
            raise Problem(400, "bad_instant", f"at: {fault}") from fault

    async def listing(self, _: Request) -> Response:
        """List all runs."""
        return JSONResponse({"runs": await self._store.runs()})

    async def show(self, request: Request) -> Response:
        """Show one run with its steps; the id may be shortened to a unique prefix."""
        wanted = request.path_params["run"]
        found = [run for run in await self._store.runs() if str(run["run"]).startswith(wanted)]
        if len(found) != 1:
            raise Problem(404, "unknown_run", f"{len(found)} runs begin with {wanted!r}; list them with /v1/runs")
        run = str(found[0]["run"])
        return JSONResponse({**found[0], "waiting": self._waiting.get(run), "steps": await self._store.steps(run)})
