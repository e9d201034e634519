"""Models on their way from the artifact store onto the board."""

import asyncio

from mainstem.serving.domain import Activation
from mainstem.serving.engine import BadSignature, Board, Model
from mainstem.storage import ArtifactCorrupt, ArtifactMissing, Artifacts
from mainstem.telemetry import logger

_RELOAD_S = 1.0

_log = logger(__name__)


class Loader:
    """Brings models from the artifact store onto the board."""

    def __init__(self, artifacts: Artifacts, board: Board, *, pause_s: float = _RELOAD_S) -> None:
        self._pause_s = pause_s
        self._artifacts = artifacts
        self._board = board
        self._faults: dict[str, str] = {}

    async def load(self, onnx: str, width: int) -> None:
        """Verify the bytes and load them; raise ArtifactMissing, ArtifactCorrupt or BadSignature."""
        model = await asyncio.to_thread(lambda: Model(self._artifacts.get(onnx), width))
        self._board.load(onnx, model)
        self._faults.pop(onnx, None)

    async def restore(self, activation: Activation) -> None:
        """Load a version that was activated before; when it cannot be, say so and return after a while."""
        try:
            await self.load(activation.onnx, len(activation.features))
        except (ArtifactMissing, ArtifactCorrupt, BadSignature) as fault:
            _log.error("not loaded: %s", fault, extra={"action": "not_loaded", "model": activation.model})
            self._faults[activation.onnx] = str(fault)
            await asyncio.sleep(self._pause_s)

    def fault(self) -> str | None:
        """Tell what keeps a version in effect from answering, or None; a check of `Health`."""
        faults = [
            f"model {a.model} version {a.version}: {self._faults.get(a.onnx, 'not loaded yet')}"
            for a in self._board.missing()
        ]
        return "; ".join(faults) or None
