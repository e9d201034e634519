"""The feature service's settings."""

from pydantic import Field

from mainstem.runtime import ServiceSettings


class Settings(ServiceSettings):
    """See `ServiceSettings`."""

    #: Share of the published rows that are evaluated again from the log by other code; 0 switches the check off.
    features_check: float = Field(default=0.01, ge=0, le=1)
    #: How many parts a feature set is shared out to; the same for all processes of the service (ADR 11).
    features_shards: int = Field(default=1, ge=1, le=1024)
