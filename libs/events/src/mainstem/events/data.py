"""Facts that ingestion publishes, and the progress marker that sources and services share."""

from typing import Any, ClassVar, Literal

from pydantic import Field

from mainstem.events.fact import Fact


class RecordAccepted(Fact):
    """A record of a source met its contract. On the wire `record` is the source's own JSON, byte for byte."""

    TYPE: ClassVar[str] = "mainstem.data.record_accepted.v1"
    TOPIC: ClassVar[str] = "evt.data.{source}"
    KEY: ClassVar[str] = "source"

    source: str = Field(description="Name of the source.")
    contract: str = Field(description="Identity of the contract it was judged by.")
    replaces: str | None = Field(default=None, description="Id of the quarantined record that this one corrects.")
    record: dict[str, Any] = Field(description="The record; its fields and units are those of the contract.")


class RecordQuarantined(Fact):
    """A record broke its contract and waits for a correction."""

    TYPE: ClassVar[str] = "mainstem.data.record_quarantined.v1"
    TOPIC: ClassVar[str] = "evt.data.quarantine"
    KEY: ClassVar[str] = "source"

    quarantine_id: str = Field(description="Id by which the record is shown and redriven.")
    source: str = Field(description="Name of the source.")
    contract: str = Field(description="Identity of the contract it was judged by.")
    record_id: str | None = Field(description="Id that the record itself carried, if it could be read.")
    reason: str = Field(description="Reason code, one of mainstem.project.records.Reason.")
    column: str | None = Field(description="Field at fault, if it is one field.")
    detail: str = Field(description="What was found and what was asked for.")
    partition: int = Field(description="Partition of the source topic.")
    offset: int = Field(description="Offset in that partition.")
    payload: str = Field(description="The record as it came, base64; cut after payload_bytes_kept.")
    payload_bytes: int = Field(description="Size of the record as it came, bytes.")
    event_time: str | None = Field(description="When it happened, as the source said it (RFC 3339).")
    recorded_time: str = Field(description="When it became known (RFC 3339).")


class RecordRedriven(Fact):
    """A corrected record took the place of a quarantined one."""

    TYPE: ClassVar[str] = "mainstem.data.record_redriven.v1"
    TOPIC: ClassVar[str] = "evt.data.quarantine"
    KEY: ClassVar[str] = "source"

    quarantine_id: str = Field(description="The quarantined record that was corrected.")
    source: str = Field(description="Name of the source.")
    accepted_id: str = Field(description="Id of the accepted event that carries the correction.")


class BatchJudged(Fact):
    """A block of consecutive offsets of a source partition was held against the batch rules of the contract."""

    TYPE: ClassVar[str] = "mainstem.data.batch_judged.v1"
    TOPIC: ClassVar[str] = "evt.data.quarantine"
    KEY: ClassVar[str] = "source"

    source: str = Field(description="Name of the source.")
    partition: int = Field(description="Partition of the source topic.")
    first_offset: int = Field(description="First offset of the block.")
    records: int = Field(description="Records judged.")
    quarantined: int = Field(description="Records among them that were quarantined.")
    null_fractions: dict[str, float] = Field(description="Share of nulls by column, over accepted records.")
    verdict: Literal["kept", "broken"] = Field(description="Whether every batch rule held.")
    broken: list[str] = Field(description="The rules that did not hold, with figure and limit.")


class ProgressReached(Fact):
    """Nothing recorded up to `until` will follow in this partition of this topic."""

    TYPE: ClassVar[str] = "mainstem.data.progress.v1"
    TOPIC: ClassVar[str] = "*"
    KEY: ClassVar[str] = "until"

    until: str = Field(description="The recorded time reached (RFC 3339).")
