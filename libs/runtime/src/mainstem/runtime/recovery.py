"""What a service is given to come back from the log alone (ADR 17)."""

from collections.abc import AsyncIterator, Sequence
from typing import Protocol

from mainstem.events.record import Record


class LoggedRecords(Protocol):
    """Every record that is in the log, each once."""

    def records(self, topics: Sequence[str]) -> AsyncIterator[Sequence[Record]]:
        """Yield the records of topics (`prefix*` is a family), some at a time; a partition's are in order."""
