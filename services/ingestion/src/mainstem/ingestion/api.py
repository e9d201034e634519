"""HTTP: records in, the quarantine out."""

from collections.abc import Awaitable, Callable, Mapping, Sequence

import orjson
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from mainstem.auth import Principals, Right
from mainstem.events.envelope import Message
from mainstem.events.ids import child_id, content_id
from mainstem.events.instants import parse, render
from mainstem.ingestion.engine import MAX_RECORD_BYTES
from mainstem.ingestion.ports import Store
from mainstem.project.contract import SourceContract
from mainstem.runtime import Problem, authenticate, body_bytes, json_body
from mainstem.runtime.http import MAX_BODY_BYTES

_MOST_LISTED = 100_000
#: CloudEvents attributes that a caller may set on a single record, as HTTP headers `ce-…`.
_ATTRIBUTES = ("id", "time", "recordedtime", "correlationid")

#: Takes messages; returns when the log has them.
Publish = Callable[[Sequence[Message]], Awaitable[None]]


class Api:
    """The routes, and what they need."""

    def __init__(self, store: Store, principals: Principals, publish: Publish) -> None:
        self._store = store
        self._principals = principals
        self._publish = publish

    def routes(self) -> Sequence[BaseRoute]:
        """Return the routes."""
        return [
            Route("/v1/sources/{source}/records", self.take, methods=["POST"]),
            Route("/v1/quarantine", self.listing),
            Route("/v1/quarantine/{quarantine_id}", self.show),
            Route("/v1/quarantine/{quarantine_id}/redrive", self.redrive, methods=["POST"]),
        ]

    async def take(self, request: Request) -> Response:
        """Take one record or an array of them; 202 when the log has them. They are judged afterwards, like all."""
        authenticate(request, self._principals, Right.OPERATE)
        contract = await self._contract(request.path_params["source"])
        body = await body_bytes(request)
        records = _records(body)
        given = {f"ce_{name}": request.headers.get(f"ce-{name}") for name in _ATTRIBUTES}
        headers = tuple((name, value.encode()) for name, value in given.items() if value)
        if headers and len(records) > 1:
            raise Problem(400, "one_record_only", "ce-… headers describe one record; send an array without them")
        if headers:
            headers = (("ce_specversion", b"1.0"), *headers)
        await self._publish([_message(contract, record, headers) for record in records])
        return JSONResponse({"source": contract.name, "taken": len(records)}, 202)

    async def listing(self, request: Request) -> Response:
        """List the quarantine: `?source=&reason=&status=open|redriven&limit=`."""
        query = request.query_params
        status, limit = query.get("status"), query.get("limit", "50")
        if status not in (None, "open", "redriven"):
            raise Problem(400, "unknown_status", f"no status {status!r}; known: open, redriven")
        if not limit.isdecimal():
            raise Problem(400, "bad_limit", f"limit {limit!r} is no number; send one from 0 to {_MOST_LISTED}")
        rows = await self._store.quarantined(
            source=query.get("source"),
            reason=query.get("reason"),
            status=status,
            limit=min(int(limit), _MOST_LISTED),
        )
        return JSONResponse({"quarantined": rows})

    async def show(self, request: Request) -> Response:
        """Show one quarantined record with its payload."""
        return JSONResponse(await self._find(request.path_params["quarantine_id"]))

    async def redrive(self, request: Request) -> Response:
        """Send a correction in place of a quarantined record, at its original event and arrival time.

        `{"record": {...}}`, and `"time"` beside it where the original event time was what was wrong.
        """
        principal = authenticate(request, self._principals, Right.OPERATE)
        found = await self._find(request.path_params["quarantine_id"])
        if found["accepted_id"] is not None:
            raise Problem(409, "already_redriven", f"{found['quarantine_id']} was corrected by {found['accepted_id']}")
        body = await json_body(request)
        if not isinstance(body, Mapping) or not isinstance(body.get("record"), Mapping):
            raise Problem(400, "record_missing", 'send {"record": {...}} with the corrected record')
        contract = await self._contract(str(found["source"]))
        record = orjson.dumps(body["record"])
        record_id = child_id(str(found["quarantine_id"]), content_id(record))
        headers = {
            "ce_specversion": "1.0",
            "ce_id": record_id,
            "ce_time": _given_time(body) or found["event_time"] or found["recorded_time"],
            "ce_recordedtime": found["recorded_time"],
            "ce_replaces": found["quarantine_id"],
            "ce_actor": principal.name,
        }
        message = _message(contract, record, tuple((k, str(v).encode()) for k, v in headers.items()))
        await self._publish([message])
        return JSONResponse({"quarantine_id": found["quarantine_id"], "record_id": record_id}, 202)

    async def _find(self, quarantine_id: str) -> dict[str, object]:
        found = await self._store.find(quarantine_id)
        if found is None:
            raise Problem(404, "unknown_quarantine_id", f"no single quarantined record begins with {quarantine_id!r}")
        return found

    async def _contract(self, source: str) -> SourceContract:
        definitions = await self._store.definitions()
        contracts = {name: c for definition in definitions for name, c in definition.sources.items()}
        if source not in contracts:
            known = ", ".join(sorted(contracts)) or "none; apply a project first"
            raise Problem(404, "unknown_source", f"no source {source!r}; known: {known}")
        return contracts[source]


def _given_time(body: Mapping[str, object]) -> str | None:
    given = body.get("time")
    if given is None:
        return None
    try:
        return render(parse(str(given)))
    except ValueError as fault:
        raise Problem(400, "bad_time", f"{fault}; send RFC 3339") from fault


def _records(body: bytes) -> list[bytes]:
    """Return the records of a body byte for byte where it is one object, re-encoded where it is an array."""
    if not body.lstrip().startswith(b"["):
        return [body]
    try:
        records = [orjson.dumps(item) for item in orjson.loads(body)]
    except orjson.JSONDecodeError as fault:
        raise Problem(400, "malformed_json", f"the body begins as an array but is no JSON: {fault}") from fault
    except orjson.JSONEncodeError as fault:
        raise Problem(400, "malformed_json", f"a record of the array cannot be written out: {fault}") from fault
    if max(map(len, records), default=0) > MAX_BODY_BYTES:
        raise Problem(413, "too_large", f"a record of the array has more than {MAX_BODY_BYTES} bytes when written out")
    return records


def _message(contract: SourceContract, record: bytes, headers: tuple[tuple[str, bytes], ...]) -> Message:
    """Key the record by the contract's column; what cannot be read is sent unkeyed and judged like any other."""
    try:
        value = orjson.loads(record).get(contract.key)
    except (orjson.JSONDecodeError, AttributeError):
        value = None
    # Too large to be accepted is too large for a second copy of a part of it.
    key = value.encode() if isinstance(value, str) and len(record) <= MAX_RECORD_BYTES else None
    return Message(f"src.{contract.name}", key, record, headers)
