"""Serving's settings."""

from pathlib import Path
from typing import Literal

from mainstem.runtime import ServiceSettings


class Settings(ServiceSettings):
    """What serving is told beside what every service is told."""

    #: Port of the gRPC door.
    grpc_port: int
    #: Folder of answers that the log does not have yet; beside the artifacts unless given.
    spool: Path | None = None
    #: The spool may take this many bytes on disk; then direct calls are refused until the broker has caught up.
    spool_bytes: int = 1 << 30
    #: "each": an answer is on the disk before it is given. "tick": within 0.1 s; a power cut can cost these.
    spool_sync: Literal["tick", "each"] = "tick"

    @property
    def spool_folder(self) -> Path:
        """Return the folder of this process's spool."""
        return (self.spool or self.artifacts.parent / "spool" / "serving") / self.instance
