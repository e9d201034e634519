"""Records as consumers hand them over, before anybody knows what they say."""

from typing import Protocol

from mainstem.events.envelope import Headers


class Record(Protocol):
    """A record as a consumer hands it over."""

    @property
    def topic(self) -> str:
        """Return the topic."""

    @property
    def partition(self) -> int:
        """Return the partition."""

    @property
    def offset(self) -> int:
        """Return the offset in the partition."""

    @property
    def timestamp(self) -> int:
        """Return when the broker appended it, ms since 1970."""

    @property
    def key(self) -> bytes | None:
        """Return the key."""

    @property
    def value(self) -> bytes | None:
        """Return the payload; None is a tombstone."""

    @property
    def headers(self) -> Headers:
        """Return the headers as they came."""


def header(record: Record, name: str) -> bytes | None:
    """Return the header `name`, or None; of several the last, as `named` does."""
    for key, value in reversed(record.headers):
        if key == name and value is not None:
            return value
    return None
