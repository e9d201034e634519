"""Facts that the ledger publishes."""

from typing import ClassVar

from pydantic import Field

from mainstem.events.envelope import Fact


class CheckpointPublished(Fact):
    """Everything up to `size` is in the tree with this root."""

    TYPE: ClassVar[str] = "mainstem.ledger.checkpoint_published.v1"
    TOPIC: ClassVar[str] = "evt.ledger.checkpoint"
    KEY: ClassVar[str] = "ledger"

    ledger: str = Field(description="Name of the ledger.")
    size: int = Field(description="Number of entries.")
    root: str = Field(description="RFC 6962 root over them, hexadecimal.")
