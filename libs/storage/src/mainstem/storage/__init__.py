"""PostgreSQL and artifacts: transactions, outbox, positions, migrations, content-addressed bytes."""

from mainstem.storage.artifacts import ArtifactCorrupt, ArtifactMissing, Artifacts
from mainstem.storage.database import Database, open_database
from mainstem.storage.outbox import Outbox
from mainstem.storage.positions import Checkpoint, load_checkpoint, load_snapshot
from mainstem.storage.queries import load
from mainstem.storage.transaction import Transaction

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
