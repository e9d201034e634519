"""An API without a server, and people who call it in their own name."""

import contextlib
import json
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from typing import Any

import httpx
from starlette.routing import BaseRoute

from mainstem.auth import Principals
from mainstem.runtime.health import Health
from mainstem.runtime.http import application


def principals(roles: Mapping[str, Iterable[str]]) -> Principals:
    """Return people who hold the named roles; each one's token follows from the name."""
    return Principals.parse(
        json.dumps([{"name": name, "roles": sorted(held), "token": _token(name)} for name, held in roles.items()])
    )


def bearer(name: str | None) -> dict[str, str]:
    """Return the header that proves a name; nothing for nobody."""
    return {} if name is None else {"authorization": f"Bearer {_token(name)}"}


class Caller:
    """Calls an API, in somebody's name or in nobody's."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self.client = client

    async def get(self, path: str, by: str | None = None) -> httpx.Response:
        """Ask for a path."""
        return await self.client.get(path, headers=bearer(by))

    async def post(self, path: str, by: str | None = None, **body: Any) -> httpx.Response:
        """Send a JSON object."""
        return await self.client.post(path, json=body, headers=bearer(by))


@contextlib.asynccontextmanager
async def calling(routes: Sequence[BaseRoute]) -> AsyncIterator[Caller]:
    """Serve routes as every service does, within this process."""
    transport = httpx.ASGITransport(application(Health(), routes))
    async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
        yield Caller(client)


def _token(name: str) -> str:
    return f"token-of-{name:>10}"
