"""Settings of a service that a test runs the workers of."""

from pathlib import Path
from typing import Any

from mainstem.cli.local.ports import anywhere
from mainstem.serving.settings import Settings


def alone(folder: Path, **said: Any) -> Settings:
    """Return settings on free ports, with everything on disk in a folder, and with no broker and no database."""
    ports = anywhere({"http": 0, "grpc": 0})
    usual = {
        "kafka": "nowhere:1",
        "database_url": "postgresql://nowhere",
        "artifacts": folder / "artifacts",
        "http_port": ports["http"],
        "grpc_port": ports["grpc"],
        "spool": folder / "spools",
    }
    return Settings(**{**usual, **said})
