"""How a project wants its answers (`serving.toml`)."""

from pydantic import BaseModel, ConfigDict, Field


class Serving(BaseModel):
    """What callers may count on."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    latency_ms: int = Field(gt=0, description="Deadline of a call; 99 of 100 are answered within it.")
