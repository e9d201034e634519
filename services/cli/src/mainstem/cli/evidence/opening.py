"""Which archive is meant: a copy of the log, or the database of the platform."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from mainstem.cli.archive import open_archive
from mainstem.cli.connection import setting
from mainstem.cli.copies import ARTIFACTS
from mainstem.cli.evidence.archive import Archive
from mainstem.cli.evidence.copied import Copy
from mainstem.cli.evidence.stored import Stored
from mainstem.storage.artifacts import Artifacts


@asynccontextmanager
async def opened(
    log: Path | None, log_key: str | None = None, witness_keys: Sequence[str] = ()
) -> AsyncIterator[Archive]:
    """Lend a copy of the log, with the keys that its checkpoint is held against, or else the archive of the platform.

    Raises Rejected for what is no copy, NotRunning without a platform, Unavailable without its PostgreSQL.
    """
    if log is not None:
        yield Copy(log, log_key, witness_keys)
        return
    async with open_archive() as store:
        yield Stored(store)


def artifacts_of(log: Path | None, given: Path | None) -> Artifacts:
    """Return the artifacts in a folder that was given, else those of the copy, else those of the platform."""
    if given is None and log is not None and (log / ARTIFACTS).is_dir():
        given = log / ARTIFACTS
    return Artifacts(given or Path(setting("MAINSTEM_ARTIFACTS")))
