"""The event bus: publish, subscribe, create topics; the only code that names Kafka."""

from mainstem.bus.port import Bus, OnBatch, Partition, Positions, Publisher, Subscription
from mainstem.bus.relay import OutboxSource, relay

__all__ = [
    "Bus",
    "OnBatch",
    "OutboxSource",
    "Partition",
    "Positions",
    "Publisher",
    "Subscription",
    "relay",
]
