"""The people of the story, through the HTTP interfaces that are open to everybody: a builder, an approver."""

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx

from mainstem.events.instants import render

#: The ledger gets this long to sign a decision; the registry waits ten seconds each time.
_EVIDENCE_S = 120


class People:
    """Calls the platform with the tokens of its principals."""

    def __init__(self, env: Mapping[str, str]) -> None:
        lines = json.loads(Path(env["MAINSTEM_PRINCIPALS"]).read_text())
        self._tokens = {line["name"]: line["token"] for line in lines}
        self._env = env
        self._client = httpx.AsyncClient(timeout=30)

    async def __aenter__(self) -> "People":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.aclose()

    async def apply(self, definition: Mapping[str, Any], at_us: int) -> None:
        """Apply the project, as the builder."""
        body = {"definition": definition, "command_id": "demo-apply", "at": render(at_us)}
        await self._post("REGISTRY", "/v1/projects", "builder", body)

    async def request_training(self, model: str, at_us: int) -> str:
        """Ask for the first run, as the builder; return its id."""
        body = {"model": model, "command_id": f"demo-training-{at_us}", "at": render(at_us)}
        return str((await self._post("TRAINING", "/v1/runs", "builder", body))["run"])

    async def approve(self, model: str, version: int, at_us: int) -> None:
        """Approve a version, as somebody who did not build it, which puts it into production."""
        body = {"command_id": f"demo-approve-{version}", "at": render(at_us), "comment": "the gates let it through"}
        await self._post("REGISTRY", f"/v1/models/{model}/versions/{version}/approve", "approver", body)

    async def _post(self, service: str, path: str, who: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Give a command; one that stands and that the ledger has not signed yet is given again, the same."""
        url, until = self._env[f"MAINSTEM_{service}_URL"] + path, time.monotonic() + _EVIDENCE_S
        headers = {"authorization": f"Bearer {self._tokens[who]}"}
        answer = await self._client.post(url, json=body, headers=headers)
        while answer.is_error and b"not_evidenced" in answer.content and time.monotonic() < until:
            answer = await self._client.post(url, json=body, headers=headers)
        if answer.is_error:
            raise RuntimeError(f"{who} POST {path}: {answer.status_code} {answer.text}")
        found: dict[str, Any] = answer.json()
        return found
