"""Why a record is refused: one code a cause, each with what to do about it."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Final, NamedTuple


class Reason(StrEnum):
    """Reason codes of quarantined records."""

    #: The payload is no JSON, or names a field twice. Mend the writer's encoder; send the record again.
    MALFORMED_JSON = "malformed_json"
    #: The payload is JSON but no object. Send one object a record, never an array or a bare value.
    NOT_AN_OBJECT = "not_an_object"
    #: A field that may not be null is absent. Fill it, or declare the column nullable.
    MISSING_FIELD = "missing_field"
    #: The contract does not know the field. Declare the column first, or stop sending it.
    UNKNOWN_FIELD = "unknown_field"
    #: The value has another type than its column. Send numbers as numbers and times as RFC 3339 with an offset.
    WRONG_TYPE = "wrong_type"
    #: The value is null and its column is not nullable. Fill it, or declare the column nullable.
    NULL_NOT_ALLOWED = "null_not_allowed"
    #: The number lies outside the column's range. Check unit and sensor; widen the range only if it is honest.
    OUT_OF_RANGE = "out_of_range"
    #: The category is not among the column's values. Correct it, or add it to the contract.
    UNKNOWN_CATEGORY = "unknown_category"
    #: The text is longer than its column allows. Shorten it, or raise the column's limit.
    TOO_LONG = "too_long"
    #: The Kafka key is absent or differs from the key column. Key each record by the column the contract names.
    KEY_MISMATCH = "key_mismatch"
    #: It happened later than it arrived, beyond the tolerance. Set the writer's clock right.
    EVENT_AFTER_ARRIVAL = "event_after_arrival"
    #: It arrived longer after it happened than the contract allows. Load old records as a replay or raise `max_age`.
    TOO_OLD = "too_old"
    #: Its id was seen before, inside `unique_within`. A repeated delivery needs nothing; a new fact needs its own id.
    DUPLICATE_ID = "duplicate_id"
    #: It has no id to be known by. Set the header `ce_id`.
    MISSING_ID = "missing_id"
    #: Its event time cannot be read. Set `ce_time` to RFC 3339 with an offset.
    BAD_EVENT_TIME = "bad_event_time"
    #: It is larger than a record may be. Send large content by reference.
    TOO_LARGE = "too_large"


#: What to do about each reason, in a sentence for whoever holds the record.
ADVICE: Final[Mapping[Reason, str]] = {
    Reason.MALFORMED_JSON: "Mend the writer's encoder; send the record again.",
    Reason.NOT_AN_OBJECT: "Send one object a record, never an array or a bare value.",
    Reason.MISSING_FIELD: "Fill the field, or declare the column nullable.",
    Reason.UNKNOWN_FIELD: "Declare the column first, or stop sending it.",
    Reason.WRONG_TYPE: "Send numbers as numbers and times as RFC 3339 with an offset.",
    Reason.NULL_NOT_ALLOWED: "Fill the field, or declare the column nullable.",
    Reason.OUT_OF_RANGE: "Check unit and sensor; widen the range only if it is honest.",
    Reason.UNKNOWN_CATEGORY: "Correct the value, or add it to the contract.",
    Reason.TOO_LONG: "Shorten the text, or raise the column's limit.",
    Reason.KEY_MISMATCH: "Key each record by the column the contract names.",
    Reason.EVENT_AFTER_ARRIVAL: "Set the writer's clock right.",
    Reason.TOO_OLD: "Load old records as a replay, or raise `max_age`.",
    Reason.DUPLICATE_ID: "A repeated delivery needs nothing; give a new fact its own id.",
    Reason.MISSING_ID: "Set the header `ce_id`.",
    Reason.BAD_EVENT_TIME: "Set `ce_time` to RFC 3339 with an offset.",
    Reason.TOO_LARGE: "Send large content by reference.",
}


class Fault(NamedTuple):
    """What is wrong with one record."""

    reason: Reason
    #: The column at fault; None when it is not one column.
    column: str | None
    #: What was found and what was asked for, in a sentence.
    detail: str
