"""The archived model on the archived inputs, and whether these are the bits that were served."""

import platform
import struct
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import onnxruntime

from mainstem.cli.evidence.archive import Found
from mainstem.events.errors import Rejected
from mainstem.events.serving import Predicted
from mainstem.serving.engine import Model
from mainstem.storage.artifacts import ArtifactCorrupt, ArtifactMissing, Artifacts

_DOUBLE: Final = struct.Struct(">d")
_BITS: Final = struct.Struct(">q")


@dataclass(frozen=True, slots=True)
class Replayed:
    """An answer as it was served, and as the archived model gives it here."""

    prediction: str
    leaf: int
    model: str
    version: int
    onnx: str
    served: float
    replayed: float

    @property
    def ulps(self) -> int:
        """Return how many float64 lie between the two; 0 when they have the same bits."""
        return abs(_ordinal(self.served) - _ordinal(self.replayed))

    @property
    def equal(self) -> bool:
        """Tell whether the two have the same bits."""
        return _DOUBLE.pack(self.served) == _DOUBLE.pack(self.replayed)


class Replay:
    """Runs archived models as serving does: the same session, whose result for a row does not depend on others."""

    def __init__(self, artifacts: Artifacts) -> None:
        self._artifacts = artifacts
        self._models: dict[tuple[str, int], Model] = {}

    def run(self, answer: Found[Predicted]) -> Replayed:
        """Answer again. Raises Rejected when the model's file is missing, or is not the one of its digest."""
        fact = answer.fact
        model = self._model(fact.onnx, len(fact.features))
        row = np.array([[np.nan if value is None else value for value in fact.features]], np.float64)
        score = float(model.probabilities(row)[0, 1])
        return Replayed(answer.envelope.id, answer.leaf, fact.model, fact.version, fact.onnx, fact.score, score)

    def _model(self, onnx: str, width: int) -> Model:
        if (onnx, width) not in self._models:
            try:
                self._models[onnx, width] = Model(self._artifacts.get(onnx), width)
            except (ArtifactMissing, ArtifactCorrupt) as fault:
                raise Rejected(
                    f"the model that answered cannot be run: {fault}, or name a folder that has it"
                ) from fault
        return self._models[onnx, width]


def here() -> dict[str, str]:
    """Return what runs models here: the runtime and its processor. Of what ran them then the log has digests alone."""
    return {"runtime": f"onnxruntime {onnxruntime.__version__}", "processor": processor()}


def processor() -> str:
    """Return the name of this machine's processor, as far as it tells."""
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _ordinal(value: float) -> int:
    """Return a number's place among all float64, in their order."""
    bits: int = _BITS.unpack(_DOUBLE.pack(value))[0]
    return bits if bits >= 0 else -(bits & 0x7FFF_FFFF_FFFF_FFFF)
