"""Names of types and topics, for who reads and writes their events as bytes and needs no models."""

from typing import Final

ROW_COMPUTED: Final = "mainstem.feature.row_computed.v1"
PREDICTED: Final = "mainstem.serving.predicted.v1"
SHADOW_SCORED: Final = "mainstem.serving.shadow_scored.v1"

ROWS: Final = "evt.feature.{feature_set}"


def rows_of(feature_set: str) -> str:
    """Return the topic of the rows of a feature set, given its label."""
    return ROWS.format(feature_set=feature_set)
