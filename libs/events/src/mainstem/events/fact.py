"""What every fact has: its type, its topic and its key."""

from typing import ClassVar

from pydantic import BaseModel, ConfigDict


class Fact(BaseModel):
    """Something that happened. Frozen; unknown fields of newer writers are ignored by readers."""

    model_config = ConfigDict(frozen=True, extra="ignore", ser_json_inf_nan="null")

    #: `mainstem.<context>.<fact>.v<N>`
    TYPE: ClassVar[str]
    #: The topic, or its pattern with `{name}`.
    TOPIC: ClassVar[str]
    #: Name of the field that is the key.
    KEY: ClassVar[str]

    @property
    def key(self) -> str:
        """Return the entity the fact is about: CloudEvents subject, Kafka key, stream of the outbox."""
        return str(getattr(self, self.KEY))

    @property
    def topic(self) -> str:
        """Return the topic this fact travels on."""
        return self.TOPIC.format_map(self.__dict__)
