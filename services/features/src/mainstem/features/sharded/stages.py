"""The four stages of a feature set that is shared out, each a consumer group that Kafka spreads over the workers."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from mainstem.features.sharded.deal import Dealer
from mainstem.features.sharded.fold import ShardFold
from mainstem.features.sharded.join import Join
from mainstem.features.sharded.order import Order
from mainstem.features.sharded.plan import Plan
from mainstem.features.sharded.unit import Unit
from mainstem.telemetry import Tracer


@dataclass(frozen=True, slots=True)
class Stage:
    """A consumer group, its topic, and what it does with each partition that it is given."""

    name: str
    topic: str
    plan: Plan
    unit: Callable[[int], Unit]
    #: Whether the topic is the set's own, so that it begins with the set; the log of others may begin anywhere.
    internal: bool = True


def stages(plan: Plan, tracer: Tracer) -> list[Stage]:
    """Return the stages; raise Rejected for a set that cannot be shared out."""
    plan.check()
    dealing = [
        Stage(f"{plan.name}.deal.{source}", f"evt.data.{source}", plan, partial(Dealer, plan, source), internal=False)
        for source in plan.compiled.streams
    ]
    return [
        *dealing,
        Stage(f"{plan.name}.fold", plan.fold_topic, plan, partial(ShardFold, plan)),
        Stage(f"{plan.name}.join", plan.join_topic, plan, lambda partition: Join(plan, partition, tracer)),
        Stage(f"{plan.name}.order", plan.order_topic, plan, lambda _: Order(plan, tracer)),
    ]
