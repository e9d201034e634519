"""Serving's settings."""

from pathlib import Path
from typing import Literal

from pydantic import Field

from mainstem.runtime import ServiceSettings


class Settings(ServiceSettings):
    """What serving is told beside what every service is told."""

    #: Port of the gRPC door.
    grpc_port: int
    #: "fast" serves calls with one request and one answer only, several times as fast; see ADR 22.
    grpc_server: Literal["grpcio", "fast"] = "grpcio"
    #: Processes that answer direct calls; they share both ports.
    serving_workers: int = Field(1, ge=1)
    #: A direct call is answered or refused within this long after it was read; a caller may ask for less.
    serving_deadline_ms: int = Field(1_000, ge=10)
    #: Folder of answers that the log does not have yet; beside the artifacts unless given.
    spool: Path | None = None
    #: The spools may take this many bytes on disk; then direct calls are refused until the broker has caught up.
    spool_bytes: int = 1 << 30
    #: "each": an answer is on the disk before it is given. "tick": 0.02 s later; a power cut can cost these.
    spool_sync: Literal["tick", "each"] = "tick"
    #: Of the direct calls that come without a trace, this share begins one; needs a folder of traces.
    trace_share: float = Field(0.0, ge=0, le=1)

    @property
    def spool_folder(self) -> Path:
        """Return the folder of this service's spools, one for each worker."""
        return (self.spool or self.artifacts.parent / "spool" / "serving") / self.instance

    @property
    def lookup_folder(self) -> Path:
        """Return the folder of the folds that workers look features up in, one for each worker."""
        return self.artifacts.parent / "lookup" / "serving" / self.instance
