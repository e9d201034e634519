"""Facts that the ledger publishes."""

from typing import ClassVar

from pydantic import Field

from mainstem.events.fact import Fact


class CheckpointPublished(Fact):
    """Everything up to `size` is in the tree with this root."""

    TYPE: ClassVar[str] = "mainstem.ledger.checkpoint_published.v1"
    TOPIC: ClassVar[str] = "evt.ledger.checkpoint"
    KEY: ClassVar[str] = "ledger"

    ledger: str = Field(description="Origin of the log.")
    size: int = Field(description="Number of entries.")
    root: str = Field(description="RFC 6962 root over them, hexadecimal.")
    note: str | None = Field(
        default=None, description="The checkpoint as C2SP tlog-checkpoint has it, signed by the log and cosigned."
    )


class RangeSealed(Fact):
    """Entries that a checkpoint covers stand in a file from now on, and no more in the database."""

    TYPE: ClassVar[str] = "mainstem.ledger.range_sealed.v1"
    TOPIC: ClassVar[str] = "evt.ledger.range"
    KEY: ClassVar[str] = "ledger"

    ledger: str = Field(description="Origin of the log.")
    first_leaf: int = Field(description="Place of the first of them.")
    end_leaf: int = Field(description="Place behind the last of them.")
    segment: str = Field(description="Content address of the Parquet file, a row an entry.")
    closing_size: int = Field(description="Number of entries under the checkpoint that closes them.")
    closing_root: str = Field(description="Root of that checkpoint, hexadecimal.")


class ReceiptIssued(Fact):
    """An event is in the tree, and this proves it: to be checked with the public keys of log and witness."""

    TYPE: ClassVar[str] = "mainstem.ledger.receipt_issued.v1"
    TOPIC: ClassVar[str] = "evt.ledger.receipt"
    KEY: ClassVar[str] = "event_id"

    event_id: str = Field(description="Id of the event.")
    leaf: int = Field(description="Place of its entry in the log.")
    entry: str = Field(description="Base64 of the entry of the log: the frame of the record.")
    receipt: str = Field(description="Place, audit path and cosigned checkpoint, as C2SP tlog-proof has them.")
