"""How a project wants its answers (`serving.toml`)."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from mainstem.project.contract import Name
from mainstem.project.durations import Microseconds

Overflow = Literal["block", "drop"]


class Lookup(BaseModel):
    """How calls are answered that name an entity and not its features."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    limits: dict[Name, Microseconds] = Field(
        default={}, description="By source how old its newest record may be; a source that is not named, any age."
    )
    stale: Literal["refuse", "mark"] = Field(
        default="refuse", description="Beyond a limit: refuse the call, or answer it and say what is stale."
    )


class Serving(BaseModel):
    """What callers may count on."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    latency_ms: int = Field(gt=0, description="Deadline of a call; 99 of 100 are answered within it.")
    # Both are left out where they are not said: a definition that was written before they could be keeps its address.
    lookup: Lookup | None = Field(
        default=None,
        exclude_if=lambda said: said is None,
        description="Whether calls may name an entity, and how; without it they bring the features.",
    )
    overflow: dict[Name, Overflow] = Field(
        default={},
        exclude_if=lambda said: not said,
        description="By model: answer no more when no more can be recorded (block; unnamed, too), or drop records.",
    )
