"""Models on their way from the artifact store onto the board."""

import asyncio
from collections.abc import Awaitable, Callable

from mainstem.events.errors import Rejected
from mainstem.intake import Admitted, admit
from mainstem.runtime import steadily
from mainstem.serving.board import Board
from mainstem.serving.domain import Activation
from mainstem.serving.engine import BadSignature, Model
from mainstem.serving.reference import check
from mainstem.storage import ArtifactCorrupt, ArtifactMissing, Artifacts
from mainstem.telemetry import logger

#: Called with a version that cannot be loaded, the rule and the reason; again and again while it is so.
Report = Callable[[Activation, str, str], Awaitable[None]]
#: Loads a model, by its digest and width, wherever else it is to answer; returns where that failed and why, or None.
Warm = Callable[[str, int], Awaitable[str | None]]
#: Says what the model is that the bytes hold; raises Refused.
Gate = Callable[[bytes], Admitted]

_RELOAD_S = 1.0
#: A process that cannot load a model is asked so often.
_TRIES = 3

_log = logger(__name__)


class NotWarm(Rejected):
    """A version is loaded here, but not in every process that is to answer with it."""


async def nowhere_else(onnx: str, width: int) -> None:
    """Load a model in no other process."""


class Loader:
    """Brings models from the artifact store onto the board, and then into the processes that answer direct calls."""

    def __init__(
        self,
        artifacts: Artifacts,
        board: Board,
        report: Report,
        warm: Warm = nowhere_else,
        *,
        pause_s: float = _RELOAD_S,
        gate: Gate = admit,
    ) -> None:
        self._pause_s = pause_s
        self._gate = gate
        self._warm = warm
        self._artifacts = artifacts
        self._board = board
        self._report = report

    async def load(self, onnx: str, width: int, profile: str | None = None) -> None:
        """Verify the bytes, let them pass the gate, load them, and check them on a profile's reference rows if given.

        Then all that is to answer has it loaded. What was activated before has passed the gate. Raises ArtifactMissing,
        ArtifactCorrupt, Refused, BadSignature, Unlike or NotWarm.
        """
        if all(activation.onnx != onnx for activation in self._board.all()):
            await asyncio.to_thread(lambda: self._gate(self._artifacts.get(onnx)))
        await self._load(onnx, width, profile)
        fault = await self._warm(onnx, width)
        for _ in range(_TRIES - 1):
            if fault is None:
                return
            await asyncio.sleep(self._pause_s)
            fault = await self._warm(onnx, width)
        if fault is not None:
            raise NotWarm(f"{fault}; see what that process lacks, then promote the version again")

    async def _load(self, onnx: str, width: int, profile: str | None = None) -> None:
        self._board.load(onnx, await asyncio.to_thread(self._verified, onnx, width, profile))

    def _verified(self, onnx: str, width: int, profile: str | None) -> Model:
        model = Model(self._artifacts.get(onnx), width)
        if profile is not None:
            check(model, self._artifacts.get(profile))
        return model

    async def restore(self, activation: Activation) -> None:
        """Load a version that was activated before; when it cannot be, say so by event and return after a while."""
        try:
            await self._load(activation.onnx, len(activation.features))
            await self._warm(activation.onnx, len(activation.features))
        except (ArtifactMissing, ArtifactCorrupt, BadSignature) as fault:
            reason, rule = str(fault), "signature" if isinstance(fault, BadSignature) else "artifact_digest"
            _log.error("not loaded: %s", reason, extra={"action": "not_loaded", "model": activation.model})
            self._board.faults[activation.onnx] = reason
            await steadily(lambda: self._report(activation, rule, reason))
            await asyncio.sleep(self._pause_s)
