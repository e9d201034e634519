"""HTTP: the size of the tree, entries, and the log as others follow it (https://c2sp.org/tlog-tiles)."""

import asyncio
import base64
import gzip
from collections.abc import Sequence

import orjson
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from mainstem.events.frames import Damaged, frame
from mainstem.ledger import leaf_hash
from mainstem.ledger.entry import entry_of
from mainstem.ledger.tiles import ENTRIES, WIDTH, Tile, pack_entries
from mainstem.ledger_service.domain import Placed
from mainstem.ledger_service.folder import Folder
from mainstem.ledger_service.ports import Store
from mainstem.runtime import Problem

_MOST_ENTRIES = 1_000


class Api:
    """The routes, and what they need."""

    def __init__(self, store: Store, folder: Folder) -> None:
        self._store = store
        self._folder = folder

    def routes(self) -> Sequence[BaseRoute]:
        """Return the routes."""
        return [
            Route("/v1/ledger", self.tree),
            Route("/v1/entries", self.newest),
            Route("/v1/entries/{event_id:path}", self.show),
            Route("/log/checkpoint", self.checkpoint),
            Route("/log/{path:path}", self.tile),
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
        return _listed(await self._store.newest(topic, int(limit)))

    async def show(self, request: Request) -> Response:
        """Show every entry with an event id: sources may have used one twice."""
        event_id = request.path_params["event_id"]
        found = await self._store.with_id(event_id)
        if not found:
            raise Problem(404, "unknown_event_id", f"no entry has the event id {event_id!r}; give the whole id")
        return _listed(found)

    async def checkpoint(self, _: Request) -> Response:
        """Give the newest checkpoint, signed and cosigned."""
        note = await asyncio.to_thread(self._folder.signed)
        if note is None:
            raise Problem(404, "no_checkpoint", "the log has no checkpoint yet; the first follows the first entry")
        return Response(note.render(), media_type="text/plain", headers={"cache-control": "no-cache"})

    async def tile(self, request: Request) -> Response:
        """Give a tile of hashes, or a bundle of entries, of the tree under the newest checkpoint."""
        try:
            tile = Tile.parse(request.path_params["path"])
            data = await (self._bundle(tile) if tile.level == ENTRIES else asyncio.to_thread(self._folder.give, tile))
        except Damaged as fault:
            raise Problem(503, "damaged", str(fault)) from fault
        except (ValueError, FileNotFoundError) as fault:
            raise Problem(404, "no_such_tile", f"the log has no {request.url.path}; see its checkpoint") from fault
        headers = {"cache-control": "max-age=31536000, immutable", "vary": "accept-encoding"}
        if tile.level == ENTRIES and "gzip" in request.headers.get("accept-encoding", ""):
            data = await asyncio.to_thread(gzip.compress, data, 1)
            headers["content-encoding"] = "gzip"
        return Response(data, media_type="application/octet-stream", headers=headers)

    async def _bundle(self, tile: Tile) -> bytes:
        """Return a bundle, cut from the archive; raise ValueError for one that the log does not have."""
        signed = await asyncio.to_thread(self._folder.size)
        first = tile.index * WIDTH
        if first + tile.width > signed:
            raise ValueError(f"the checkpoint covers {signed} entries")
        return pack_entries(map(entry_of, await self._store.frames(first, first + tile.width)))


def _listed(found: Sequence[Placed]) -> Response:
    return Response(orjson.dumps({"entries": list(map(shown, found))}), media_type="application/json")


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
        orjson.loads(value)
    except orjson.JSONDecodeError:
        return {"value_base64": base64.b64encode(value).decode()}
    return {"value": orjson.Fragment(value)}  # as it is: what can be read need not be shallow enough to be written
