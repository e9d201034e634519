"""The vocabulary: what an event is, which events there are, and on which topics they travel."""

from mainstem.events.envelope import Envelope, Event, Fact, Message, begin, follow
from mainstem.events.ids import child_id, content_id

__all__ = ["Envelope", "Event", "Fact", "Message", "begin", "child_id", "content_id", "follow"]
