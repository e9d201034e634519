"""Facts that the feature service publishes."""

from typing import ClassVar, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from mainstem.events.fact import Fact
from mainstem.events.names import ROW_COMPUTED, ROWS, rows_of


class RowComputed(Fact):
    """The feature values of one spine record at its place in the applied order."""

    TYPE: ClassVar[str] = ROW_COMPUTED
    TOPIC: ClassVar[str] = ROWS
    KEY: ClassVar[str] = "entity"

    feature_set: str = Field(description="Name of the feature set.")
    definition: str = Field(description="Identity of the feature set: SHA-256 of its canonical form.")
    entity: str = Field(description="Key of the spine record.")
    spine_id: str = Field(description="Id of the accepted spine record.")
    values: list[float | None] = Field(description="Feature values in the order of the definition; null = unknown.")

    @classmethod
    def topic_of(cls, feature_set: str) -> str:
        """Return the topic of the rows of a feature set, given its label."""
        return rows_of(feature_set)


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
    complete: bool = Field(
        default=True,
        description="Whether all inputs have passed `until`; else it ends with what was read of a source that announces"
        " no progress, and stands in the log before the rows that follow from it.",
    )
    runs: list[tuple[int, int, int, int]] = Field(
        description="(topic index, partition, first offset, last offset) of the source records."
    )

    @model_validator(mode="after")
    def _points_into_its_topics(self) -> Self:
        if not all(0 <= topic < len(self.topics) for topic, *_ in self.runs):
            raise ValueError("a run names a topic that the entry has not")
        return self


class ValuesRead(Fact):
    """Values were read without an event. The first `applied` records of the order give them again, bit for bit."""

    TYPE: ClassVar[str] = "mainstem.feature.values_read.v1"
    TOPIC: ClassVar[str] = "evt.feature.read"
    KEY: ClassVar[str] = "feature_set"

    feature_set: str = Field(description="Label of the feature set.")
    definition: str = Field(description="Identity of the feature set.")
    at: str = Field(description="Moment that the values are of (RFC 3339).")
    applied: int = Field(description="Records applied when they were read: a position in the order of the journal.")
    columns: dict[str, list[float | bool | str | None]] = Field(
        description="What was said of each entity, by column of the spine; null, as a column left out, is unknown."
    )
    values: list[list[float | None]] = Field(
        description="Values of each entity in the order of the definition; null = unknown."
    )
    asked_by: str = Field(description="Principal, or 'anonymous'.")


class Evidence(BaseModel):
    """A record that a value rests on, at its place in the log of its source."""

    model_config = ConfigDict(frozen=True)

    topic: str = Field(description="Source topic.")
    partition: int = Field(description="Partition of the source topic.")
    offset: int = Field(description="Offset in that partition.")
    event_time: str = Field(description="When it happened (RFC 3339).")
    value: float | int | str | None = Field(description="What it brings: in its unit, a time in µs since 1970.")
    aggregate: str = Field(description="The aggregate it counts in, or the column of the spine record, in words.")


class Difference(BaseModel):
    """Where what was published is not what follows from the log."""

    model_config = ConfigDict(frozen=True)

    spine_id: str = Field(description="Id of the accepted spine record; empty when it is about no single record.")
    about: str = Field(description="What is wrong, in words.")
    feature: str | None = Field(default=None, description="The feature; null when the row itself is wrong.")
    served: float | None = Field(default=None, description="The value that was published; null = unknown.")
    recomputed: float | None = Field(default=None, description="The value that follows; null = unknown.")
    records: list[Evidence] = Field(default=[], description="The newest records that the value rests on, at most 50.")
    records_in_all: int = Field(default=0, description="How many records it rests on.")


class VectorsChecked(Fact):
    """Published rows, chosen by a hash of the spine record's id, were evaluated again from the log by other code."""

    TYPE: ClassVar[str] = "mainstem.feature.vectors_checked.v1"
    TOPIC: ClassVar[str] = "evt.feature.check"
    KEY: ClassVar[str] = "feature_set"

    feature_set: str = Field(description="Label of the feature set.")
    definition: str = Field(description="Identity of the feature set.")
    number: int = Field(description="Number of this check, from 0, without gaps for a definition.")
    until: str = Field(description="Recorded time up to which rows were checked (RFC 3339).")
    entry: int = Field(description="Number of the journal's entry that ends there.")
    fraction: float = Field(description="Share of the rows that is checked.")
    rows: int = Field(description="Rows checked since the check before.")
    cells: int = Field(description="Values compared in them, bit for bit.")
    differing: int = Field(description="Values among them with other bits, and those that are missing or too many.")
    first_difference: Difference | None = Field(description="The first of them; null when there is none.")


class FoldStopped(Fact):
    """A fold stands still: records that it must apply next are not in its input any more."""

    TYPE: ClassVar[str] = "mainstem.feature.fold_stopped.v1"
    TOPIC: ClassVar[str] = "evt.feature.check"
    KEY: ClassVar[str] = "feature_set"

    feature_set: str = Field(description="Label of the feature set.")
    definition: str = Field(description="Identity of the feature set.")
    input: str = Field(description="Topic with the gap.")
    partition: int = Field(description="Partition of it.")
    expected_offset: int = Field(description="Offset that must be applied next.")
    found_offset: int = Field(description="First offset that is there.")
    reason: str = Field(description="What is wrong and what to do.")
