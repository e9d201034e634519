"""Facts that the feature service publishes."""

from typing import ClassVar

from pydantic import Field

from mainstem.events.envelope import Fact


class RowComputed(Fact):
    """The feature values of one spine record at its place in the applied order."""

    TYPE: ClassVar[str] = "mainstem.feature.row_computed.v1"
    TOPIC: ClassVar[str] = "evt.feature.{feature_set}"
    KEY: ClassVar[str] = "entity"

    feature_set: str = Field(description="Name of the feature set.")
    definition: str = Field(description="Identity of the feature set: SHA-256 of its canonical form.")
    entity: str = Field(description="Key of the spine record.")
    spine_id: str = Field(description="Id of the accepted spine record.")
    values: list[float | None] = Field(description="Feature values in the order of the definition; null = unknown.")


class OrderJournalled(Fact):
    """The order in which records were applied: runs of consecutive offsets."""

    TYPE: ClassVar[str] = "mainstem.feature.order_journalled.v1"
    TOPIC: ClassVar[str] = "evt.feature.journal"
    KEY: ClassVar[str] = "feature_set"

    feature_set: str = Field(description="Name of the feature set.")
    definition: str = Field(description="Identity of the feature set.")
    number: int = Field(description="Number of this entry of the journal, from 0, without gaps.")
    until: str = Field(description="Recorded time up to which the order is complete (RFC 3339).")
    applied: int = Field(description="Records applied since the first, this entry included.")
    topics: list[str] = Field(description="Source topics that the runs refer to by index.")
    runs: list[tuple[int, int, int, int]] = Field(
        description="(topic index, partition, first offset, last offset) of the source records."
    )
