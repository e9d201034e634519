"""A worker without the service around it: what its crew is told, and a model of any cost for it to answer with."""

from pathlib import Path

import numpy as np
from sklearn.ensemble import HistGradientBoostingClassifier

from mainstem.cli.local.ports import anywhere
from mainstem.serving.domain import Activation
from mainstem.serving.settings import Settings
from mainstem.storage.artifacts import Artifacts
from mainstem.training.onnx_export import to_onnx

WIDTH = 15
PATH = "/v2/models/m/infer"


def settings(folder: Path) -> Settings:
    """Return settings on free ports, with everything on disk in a folder, and with no broker and no database."""
    ports = anywhere({"http": 0, "grpc": 0})
    return Settings(
        kafka="nowhere:1",
        database_url="postgresql://nowhere",
        artifacts=folder / "artifacts",
        spool_bytes=8 << 30,
        http_port=ports["http"],
        grpc_port=ports["grpc"],
    )


def activation(
    artifacts: Artifacts, version: int, trees: int = 100, *, model: str = "m", width: int = WIDTH
) -> Activation:
    """Return a version of a model, which lies among the artifacts."""
    random = np.random.default_rng(1)
    x = random.normal(size=(2_000, width))
    noisy = x[:, version] + random.normal(size=len(x)) > 0  # or else the trees are stumps
    fitted = HistGradientBoostingClassifier(max_iter=trees).fit(x, noisy)
    onnx = artifacts.put(to_onnx(fitted))
    return Activation(f"d{version}", model, version, onnx, "set", "sha256:f", ("x",) * width, 0, {})
