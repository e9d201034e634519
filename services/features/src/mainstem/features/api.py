"""HTTP: how far the feature sets are, what was parked for them, and values read without an event."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from mainstem.auth import Principals
from mainstem.events.errors import faults
from mainstem.events.instants import parse
from mainstem.features.answers import Answers, Question
from mainstem.features.ports import Parking
from mainstem.runtime import Problem, identify, json_body

#: A read may ask about this many entities.
MAX_ENTITIES = 1_000
#: So many parked records are listed at most.
_MOST_LISTED = 1_000


class _Read(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    at: str | None = None
    entities: Annotated[list[dict[str, JsonValue]], Field(min_length=1, max_length=MAX_ENTITIES)]


class Api:
    """The routes, and what answers them."""

    def __init__(self, answers: Answers, principals: Principals, parking: Parking) -> None:
        self._answers = answers
        self._parking = parking
        self._principals = principals

    def routes(self) -> Sequence[BaseRoute]:
        """Return the routes."""
        return [
            Route("/v1/feature-sets", self.sets),
            Route("/v1/feature-sets/{feature_set}/parked", self.parked),
            Route("/v1/feature-sets/{feature_set}/read", self.read, methods=["POST"]),
        ]

    async def sets(self, _: Request) -> Response:
        """List the feature sets that are computed here, with how far each is."""
        return JSONResponse({"feature_sets": self._answers.sets()})

    async def parked(self, request: Request) -> Response:
        """List the records that a set could not apply, newest first: `?limit=`, 100 if it is not said."""
        definition = self._answers.identity(request.path_params["feature_set"])
        limit = request.query_params.get("limit", "100")
        if not limit.isdecimal():
            raise Problem(400, "bad_limit", f"limit {limit!r} is no number; send one from 0 to {_MOST_LISTED}")
        found = await self._parking.parked(definition, min(int(limit[:9]), _MOST_LISTED))
        return JSONResponse({"parked": [asdict(each) for each in found]})

    async def read(self, request: Request) -> Response:
        """Read values: {"at"?, "entities": [{column: value, ...}, ...]}. Nobody has to say who asks."""
        asked_by = "anonymous"
        if "authorization" in request.headers:
            asked_by = identify(request, self._principals).name
        try:
            body = _Read.model_validate(await json_body(request))
        except ValidationError as fault:
            raise Problem(400, "malformed_body", f"the body is not what this call takes: {faults(fault)}") from fault
        question = Question(request.path_params["feature_set"], _instant(body.at), body.entities, asked_by)
        return JSONResponse(await self._answers.read(question))


def _instant(text: str | None) -> int | None:
    try:
        return None if text is None else parse(text)
    except ValueError as fault:
        raise Problem(400, "bad_instant", f"at: {fault}; write it like 2013-05-01T00:00:00Z") from fault
