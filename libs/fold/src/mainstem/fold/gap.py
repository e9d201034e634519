"""What is gone of the log."""

from mainstem.events.record import Record
from mainstem.fold.ordered import Partition


class Gap(Exception):
    """Records of the log that must be folded are gone: what comes after them would get other values.

    `appended_us` is when the broker took the record behind the gap; while there is none, when the gap was noticed.
    """

    def __init__(self, place: Partition, *, expected: int, found: int, appended_us: int) -> None:
        self.topic, self.partition = place
        self.expected, self.found, self.appended_us = expected, found, appended_us
        fault = "records between are gone" if found > expected else "the log was cut off or made anew"
        super().__init__(
            f"{self.topic}/{self.partition} goes on at offset {found}, {expected} is due: {fault}; "
            "bring them back, or declare a new version of the feature set, which begins with what is there; "
            "nothing is read meanwhile: once they are back, restart the service that says so"
        )

    @classmethod
    def before(cls, record: Record, expected: int) -> "Gap":
        """Return the gap before a record that is not the one due."""
        place = (record.topic, record.partition)
        return cls(place, expected=expected, found=record.offset, appended_us=1_000 * record.timestamp)
