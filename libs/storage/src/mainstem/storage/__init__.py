"""PostgreSQL and artifacts: transactions, outbox, positions, migrations, content-addressed bytes.

Each is loaded by who asks for it: a process that reads artifacts needs no client of the database.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mainstem.storage.artifacts import ArtifactCorrupt, ArtifactMissing, Artifacts
    from mainstem.storage.database import Database, open_database
    from mainstem.storage.outbox import Outbox
    from mainstem.storage.positions import Checkpoint, load_checkpoint, load_snapshot
    from mainstem.storage.queries import load
    from mainstem.storage.transaction import Transaction

#: What is loaded by who asks for it, and from where.
_LATE = {
    "ArtifactCorrupt": "artifacts",
    "ArtifactMissing": "artifacts",
    "Artifacts": "artifacts",
    "Database": "database",
    "open_database": "database",
    "Outbox": "outbox",
    "Checkpoint": "positions",
    "load_checkpoint": "positions",
    "load_snapshot": "positions",
    "load": "queries",
    "Transaction": "transaction",
}

__all__ = [
    "ArtifactCorrupt",
    "ArtifactMissing",
    "Artifacts",
    "Checkpoint",
    "Database",
    "Outbox",
    "Transaction",
    "load",
    "load_checkpoint",
    "load_snapshot",
    "open_database",
]

if not TYPE_CHECKING:  # for a type checker what is missing is missing

    def __getattr__(name: str) -> object:
        """Load what is asked for (PEP 562)."""
        if name not in _LATE:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        found: object = getattr(import_module(f"{__name__}.{_LATE[name]}"), name)
        globals()[name] = found
        return found
