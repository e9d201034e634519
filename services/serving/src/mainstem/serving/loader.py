"""Models on their way from the artifact store onto the board."""

import asyncio
from collections.abc import Awaitable, Callable

from mainstem.runtime import steadily
from mainstem.serving.domain import Activation
from mainstem.serving.engine import BadSignature, Board, Model
from mainstem.storage import ArtifactCorrupt, ArtifactMissing, Artifacts
from mainstem.telemetry import logger

#: Called with a version that cannot be loaded, the rule and the reason; again and again while it is so.
Report = Callable[[Activation, str, str], Awaitable[None]]

_RELOAD_S = 1.0

_log = logger(__name__)


class Loader:
    """Brings models from the artifact store onto the board."""

    def __init__(self, artifacts: Artifacts, board: Board, report: Report, *, pause_s: float = _RELOAD_S) -> None:
        self._pause_s = pause_s
        self._artifacts = artifacts
        self._board = board
        self._report = report

    async def load(self, onnx: str, width: int) -> None:
        """Verify the bytes and load them; raise ArtifactMissing, ArtifactCorrupt or BadSignature."""
        model = await asyncio.to_thread(lambda: Model(self._artifacts.get(onnx), width))
        self._board.load(onnx, model)

    async def restore(self, activation: Activation) -> None:
        """Load a version that was activated before; when it cannot be, say so by event and return after a while."""
        try:
            await self.load(activation.onnx, len(activation.features))
        except (ArtifactMissing, ArtifactCorrupt, BadSignature) as fault:
            reason, rule = str(fault), "signature" if isinstance(fault, BadSignature) else "artifact_digest"
            _log.error("not loaded: %s", reason, extra={"action": "not_loaded", "model": activation.model})
            self._board.faults[activation.onnx] = reason
            await steadily(lambda: self._report(activation, rule, reason))
            await asyncio.sleep(self._pause_s)

    def fault(self) -> str | None:
        """Tell what keeps a version in effect from answering, or None; a check of `Health`."""
        faults = [
            f"model {a.model} version {a.version}: {self._board.faults.get(a.onnx, 'not loaded yet')}"
            for a in self._board.missing()
        ]
        return "; ".join(faults) or None
