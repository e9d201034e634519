"""A fold before a gap: it says so by an event and by not being ready, once for each gap, and does nothing more."""

from mainstem.events.catalogue import decode
from mainstem.events.features import FoldStopped
from mainstem.events.fence import Fence
from mainstem.features.gaps import stand_still
from mainstem.features.rows import RowWriter
from mainstem.fold.gap import Gap
from mainstem.runtime.health import Health
from mainstem.telemetry import Tracer
from mainstem.testkit.projects import shop
from mainstem.testkit.records import Log, Taken
from mainstem.testkit.waiting import running, until

BUYING = shop().feature_sets["buying"].compiled
WRITER = RowWriter(BUYING, Tracer("test", None))
ORDERS = Gap.before(Taken("evt.data.orders", 0, 1_007), expected=1_000)
#: Later, and at a lower offset.
PAYMENTS = Gap.before(Taken("evt.data.payments", 1, 301), expected=300)


async def told(log: Log, gap: Gap, health: Health | None = None) -> dict[str, str]:
    """Stand still before a gap until it was told of; return what kept the service from being ready meanwhile."""
    known = len(log.records)
    health = health or Health()
    async with running(stand_still(log, health, WRITER, gap)):
        await until(lambda: len(log.records) > known)
        return health.faults()


async def test_a_gap_is_told_by_an_event_with_the_place() -> None:
    log = Log()
    await told(log, ORDERS)
    (fact,) = (decode(record).fact for record in log.records)
    assert fact == FoldStopped(
        feature_set="buying",
        definition=BUYING.id,
        input="evt.data.orders",
        partition=0,
        expected_offset=1_000,
        found_offset=1_007,
        reason=str(ORDERS),
    )


async def test_a_gap_keeps_the_service_from_being_ready_while_the_fold_stands_before_it() -> None:
    health = Health()
    assert await told(Log(), ORDERS, health) == {"feature set buying": str(ORDERS)}
    assert health.faults() == {}


def test_what_is_said_of_a_gap_is_what_is_gone_and_what_to_do() -> None:
    assert str(ORDERS) == (
        "evt.data.orders/0 goes on at offset 1007, 1000 is due: records between are gone; bring them back, or declare "
        "a new version of the feature set, which begins with what is there; nothing is read meanwhile: once they are "
        "back, restart the service that says so"
    )


async def test_each_gap_is_an_event_of_its_own_and_once_more_the_same_one() -> None:
    log = Log()
    for gap in (ORDERS, PAYMENTS, ORDERS, PAYMENTS):
        await told(log, gap)
    fresh, headers = Fence().admit(log.records)
    assert [decode(record).fact.model_dump()["input"] for record in fresh] == ["evt.data.orders", "evt.data.payments"]
    assert len({found["ce_id"] for found in headers}) == 2
