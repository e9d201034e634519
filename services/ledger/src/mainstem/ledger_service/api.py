"""HTTP: the size of the tree, and entries."""

import base64
from collections.abc import Sequence

import orjson
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from mainstem.events.frames import frame
from mainstem.ledger import leaf_hash
from mainstem.ledger.entry import entry_of
from mainstem.ledger_service.domain import Placed
from mainstem.ledger_service.ports import Store
from mainstem.runtime import Problem

_MOST_ENTRIES = 1_000


class Api:
    """The routes, and what they need."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def routes(self) -> Sequence[BaseRoute]:
        """Return the routes."""
        return [
            Route("/v1/ledger", self.tree),
            Route("/v1/entries", self.newest),
            Route("/v1/entries/{event_id:path}", self.show),
        ]

    async def tree(self, _: Request) -> Response:
        """Tell size and root of the tree, and entries and dropped second copies by topic."""
        state, counts = await self._store.state(), await self._store.counts()
        return JSONResponse({"size": state.frontier.size, "root": state.frontier.root().hex(), "topics": counts})

    async def newest(self, request: Request) -> Response:
        """List the newest entries of a topic, the newest first: `?topic=&limit=`."""
        topic = request.query_params.get("topic")
        limit = request.query_params.get("limit", "20")
        if topic is None:
            raise Problem(400, "topic_missing", "name a topic: /v1/entries?topic=evt.registry.model")
        if not limit.isdecimal() or not 1 <= int(limit) <= _MOST_ENTRIES:
            raise Problem(400, "bad_limit", f"limit is {limit!r}; give a number from 1 to {_MOST_ENTRIES}")
        return JSONResponse({"entries": [shown(found) for found in await self._store.newest(topic, int(limit))]})

    async def show(self, request: Request) -> Response:
        """Show every entry with an event id: sources may have used one twice."""
        event_id = request.path_params["event_id"]
        found = await self._store.with_id(event_id)
        if not found:
            raise Problem(404, "unknown_event_id", f"no entry has the event id {event_id!r}; give the whole id")
        return JSONResponse({"entries": [shown(each) for each in found]})


def shown(placed: Placed) -> dict[str, object]:
    """Return an entry as JSON: where it stands, its headers, its value as JSON where it is, else as base64."""
    leaf, entry = placed
    return {
        "leaf": leaf,
        "hash": leaf_hash(entry_of(frame(entry))).hex(),
        "topic": entry.topic,
        "partition": entry.partition,
        "offset": entry.offset,
        "timestamp_ms": entry.timestamp,
        "key": None if entry.key is None else entry.key.decode(errors="replace"),
        "headers": [[name, (value or b"").decode(errors="replace")] for name, value in entry.headers],
        **_value(entry.value),
    }


def _value(value: bytes | None) -> dict[str, object]:
    if value is None:
        return {"value": None}
    try:
        return {"value": orjson.loads(value)}
    except orjson.JSONDecodeError:
        return {"value_base64": base64.b64encode(value).decode()}
