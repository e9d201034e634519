"""HTTP: what is watched, verdicts and alerts; an operator may close an alert."""

import time
from collections.abc import Mapping, Sequence

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from mainstem.auth import Principals, Right
from mainstem.events.ids import child_id
from mainstem.events.instants import parse
from mainstem.monitoring.alerts import closed
from mainstem.monitoring.store import PostgresStore, Row
from mainstem.runtime import Problem, authenticate, json_body

_MOST_WINDOWS = 1_000
_STATUSES = {None: None, "open": True, "closed": False}


class Api:
    """The routes, and what they need."""

    def __init__(self, store: PostgresStore, principals: Principals) -> None:
        self._store = store
        self._principals = principals

    def routes(self) -> Sequence[BaseRoute]:
        """Return the routes."""
        return [
            Route("/v1/monitors", self.monitors),
            Route("/v1/monitors/{model}/windows", self.windows),
            Route("/v1/alerts", self.alerts),
            Route("/v1/alerts/{alert}", self.alert),
            Route("/v1/alerts/{alert}/close", self.close, methods=["POST"]),
        ]

    async def monitors(self, _: Request) -> Response:
        """List the models that are watched, each with the last figures of the version in production."""
        return JSONResponse({"monitors": await self._store.monitors()})

    async def windows(self, request: Request) -> Response:
        """List the verdicts on a model's windows, the newest first: `?limit=`."""
        model = request.path_params["model"]
        if model not in {row["model"] for row in await self._store.monitors()}:
            raise Problem(404, "unknown_model", f"no applied project declares model {model!r}; see /v1/monitors")
        return JSONResponse({"windows": await self._store.windows(model, _limit(request))})

    async def alerts(self, request: Request) -> Response:
        """List alerts, the newest first: `?model=&status=open|closed`."""
        status = request.query_params.get("status")
        if status not in _STATUSES:
            raise Problem(400, "bad_status", f"status is 'open' or 'closed', not {status!r}")
        return JSONResponse({"alerts": await self._store.alerts(request.query_params.get("model"), _STATUSES[status])})

    async def alert(self, request: Request) -> Response:
        """Show one alert; the id may be shortened to a unique prefix."""
        return JSONResponse(await self._find(request))

    async def close(self, request: Request) -> Response:
        """Close an alert by hand: {"reason", "at"?}. It opens anew if a later window still shows the evidence."""
        principal = authenticate(request, self._principals, Right.OPERATE)
        body = await json_body(request)
        if not isinstance(body, Mapping) or not isinstance(body.get("reason"), str) or not body["reason"].strip():
            raise Problem(400, "reason_missing", 'send {"reason": "<why the alert is over>"}')
        recorded_us = self._recorded(request, body)
        found = await self._find(request)
        async with self._store.transaction() as book:
            about = found["model"] or found["definition"]
            await book.lock(about)
            standing = [one for one in await book.open_alerts(about) if one.fact.alert == found["alert"]]
            if not standing:
                raise Problem(409, "already_closed", f"alert {found['alert']} is closed; see /v1/alerts?status=open")
            cause = child_id(found["alert"], f"close:{principal.name}")
            await book.record(
                closed(standing[0], body["reason"], cause=cause, actor=principal.name, recorded_us=recorded_us)
            )
        return JSONResponse(await self._find(request))

    async def _find(self, request: Request) -> Row:
        wanted = request.path_params["alert"]
        found = await self._store.alert(wanted)
        if found is None:
            raise Problem(404, "unknown_alert", f"no single alert begins with {wanted!r}; list them with /v1/alerts")
        return found

    def _recorded(self, request: Request, body: Mapping[str, object]) -> int:
        """Return now, or the time that somebody who may replay history gives."""
        if body.get("at") is None:
            return time.time_ns() // 1000
        authenticate(request, self._principals, Right.REPLAY)
        try:
            return parse(str(body["at"]))
        except (ValueError, OverflowError) as fault:
            raise Problem(400, "bad_instant", f"at: {fault}") from fault


def _limit(request: Request) -> int:
    text = request.query_params.get("limit", "100")
    if not (text.isascii() and text.isdecimal()) or not 0 < int(text) <= _MOST_WINDOWS:
        raise Problem(400, "bad_limit", f"limit is a number from 1 to {_MOST_WINDOWS}, not {text!r}")
    return int(text)
