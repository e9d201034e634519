"""Calls to the services over HTTP, answered with their JSON or ended with their own sentence."""

import os
import sys
import time
from collections.abc import Mapping
from typing import Any, cast

import httpx

from mainstem.cli.connection import setting, token
from mainstem.events.errors import MainstemError, Unavailable

_TIMEOUT_S = 30
#: A decision that stands and is not proved yet is given again for so long; the service waits each time.
_EVIDENCE_S = 60
_NOT_EVIDENCED = "mainstem:not_evidenced"


class CallRefused(MainstemError):
    """A service understood the call and said no; the message is its reason and names the rule.

    `problem` is the whole of its answer, as far as that is a problem document.
    """

    def __init__(self, message: str, problem: Mapping[str, Any] | None = None) -> None:
        super().__init__(message)
        self.problem = problem or {}


def get(service: str, path: str) -> dict[str, Any]:
    """Return what a service shows at `path`; raise CallRefused, or Unavailable when it does not answer."""
    return _call(service, "GET", path)


def post(service: str, path: str, body: Mapping[str, object], *, by: str) -> dict[str, Any]:
    """Give a command in the name of a principal (`MAINSTEM_TOKEN` goes first); raise as `get` does.

    One that stands, and that the ledger has not signed yet, is given again, the same, for a minute.
    """
    until, headers = time.monotonic() + _EVIDENCE_S, {"authorization": f"Bearer {token(by)}"}
    while True:
        try:
            return _call(service, "POST", path, json=body, headers=headers)
        except CallRefused as refused:
            if refused.problem.get("type") != _NOT_EVIDENCED:
                raise
            if time.monotonic() > until:
                late = "the decision stands, and the ledger has not signed it within a minute; do not give it again: "
                raise CallRefused(f"{late}`mainstem status` says whether ledger and witness run") from refused
            print("the decision stands and is not signed yet; waiting for the ledger", file=sys.stderr)


def ask(service: str, path: str, body: Mapping[str, object]) -> dict[str, Any]:
    """Put a question that anybody may put; `MAINSTEM_TOKEN`, if it is set, says who does. Raises as `get` does."""
    given = os.environ.get("MAINSTEM_TOKEN")
    headers = {} if given is None else {"authorization": f"Bearer {given}"}
    return _call(service, "POST", path, json=body, headers=headers)


def send(service: str, path: str, body: bytes, *, by: str, kind: str = "application/json") -> dict[str, Any]:
    """Give content that is written already, JSON or of another kind, as a principal; raise as `get` does."""
    headers = {"authorization": f"Bearer {token(by)}", "content-type": kind}
    return _call(service, "POST", path, content=body, headers=headers)


def _call(service: str, method: str, path: str, **request: Any) -> dict[str, Any]:
    url = setting(f"MAINSTEM_{service.upper()}_URL")
    try:
        answer = httpx.request(method, f"{url}{path}", timeout=_TIMEOUT_S, **request)
    except httpx.TransportError as fault:
        raise Unavailable(f"{service} at {url} does not answer ({fault}); see `mainstem status`") from fault
    if answer.is_success:
        return cast("dict[str, Any]", answer.json())
    if "problem+json" not in answer.headers.get("content-type", ""):
        raise CallRefused(f"{answer.url} answered {answer.status_code}: {answer.text}")
    problem = answer.json()
    raise CallRefused(f"{problem['title']}: {problem['detail']}", problem)
