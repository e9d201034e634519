"""What the check tells is a function of the log: whatever the polls, the crashes of the fold, and its own restarts."""

import asyncio
import random
from collections.abc import Mapping, Sequence
from datetime import datetime
from itertools import count, groupby
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from services.features.tests.check_story import SUBJECT, Kept, Story
from services.features.tests.features_history import ANNOUNCED, SILENT, Process
from typing_extensions import override

from mainstem.bus import OnBatch
from mainstem.events.catalogue import decode
from mainstem.events.envelope import Event
from mainstem.events.errors import Unavailable
from mainstem.events.features import OrderJournalled, VectorsChecked
from mainstem.features.check.checker import Checker
from mainstem.features.check.decoding import Payloads, specification
from mainstem.features.check.running import Checking, subject
from mainstem.project import category, fixed, source, time
from mainstem.project.records import Decoder
from mainstem.telemetry import metrics
from mainstem.testkit.clock import HOUR
from mainstem.testkit.projects import shop
from mainstem.testkit.records import Taken
from mainstem.testkit.waiting import running, until

SECOND = 1_000_000


def long_story() -> Story:
    """Tell of 12 hours with 90 orders and as many payments each, two wrong rows among them."""
    story = Story()
    for hour in range(12):
        paid = 0.0
        for place in range(90):
            at_us = 2 * hour * HOUR + place * SECOND
            story.paid(at_us - 1, place / 4)
            paid += place / 4
            wrong = (hour, place) in {(4, 17), (9, 3)}
            story.ordered(at_us, 1.0, [1.0, place + 1.0 if wrong else float(place), paid, place / 4])
        story.close((2 * hour + 1) * HOUR)
    return story


def slow_story() -> Story:
    """Tell of ten days with an order every six hours."""
    story = Story()
    for number in range(40):
        at_us = (6 * number + 1) * HOUR
        story.ordered(at_us, 1.0, [1.0, 0.0, 0.0, None])
        story.close(at_us + HOUR)
    return story


STORY, SLOW = long_story(), slow_story()


def polls(records: Sequence[Taken], chance: random.Random) -> list[list[Taken]]:
    """Cut each partition into pieces and hand them over in any order of the partitions."""
    by_place = [list(run) for _, run in groupby(sorted(records, key=_place), key=lambda r: (r.topic, r.partition))]
    found = []
    while by_place:
        place = chance.choice(by_place)
        count = chance.randint(1, 200)
        found.append([place.pop(0) for _ in place[:count]])
        by_place = [left for left in by_place if left]
    return found


def _place(record: Taken) -> tuple[str, int, int]:
    return record.topic, record.partition, record.offset


def undisturbed(story: Story = STORY) -> list[Event]:
    checker = Checker(SUBJECT)
    checker.take(story.records)
    return [event for event in checker.work() if event is not None]


def test_the_story_has_events_with_and_without_a_difference() -> None:
    facts = [event.fact for event in undisturbed()]
    assert [fact.differing for fact in facts if isinstance(fact, VectorsChecked)] == [0, 1, 0, 1]


def test_a_story_of_few_rows_has_an_event_a_day() -> None:
    facts = [event.fact for event in undisturbed(SLOW)]
    assert [fact.rows for fact in facts if isinstance(fact, VectorsChecked)] == [5, *[4] * 8]


@pytest.mark.parametrize("story", [STORY, SLOW], ids=["many rows", "few rows"])
@pytest.mark.parametrize("seed", range(6))
async def test_whatever_the_polls_and_wherever_it_is_killed_the_events_are_the_same(seed: int, story: Story) -> None:
    chance, kept = random.Random(seed), Kept()
    for life in range(3):
        checker = Checker(SUBJECT, await kept.last_check(SUBJECT.definition))
        for batch in polls(story.records, chance):
            checker.take(batch)
            kept.events += [event for event in checker.work() if event is not None]
            if life < 2 and chance.random() < 0.1:
                break
    assert kept.events == undisturbed(story)


POLL = st.tuples(st.sampled_from(sorted(ANNOUNCED)), st.integers(1, 12))
Step = Literal["crash", "checkpoint"] | tuple[tuple[str, int], int]
#: Polls of all partitions, so that there are rows behind a marker when it crashes.
ROUND = st.permutations(sorted(ANNOUNCED)).flatmap(
    lambda places: st.tuples(*[st.tuples(st.just(p), st.integers(4, 12)) for p in places])
)
STEPS: st.SearchStrategy[list[Step]] = st.lists(
    ROUND | POLL.map(lambda poll: (poll,)) | st.sampled_from(("crash", "checkpoint")).map(lambda step: (step,)),
    max_size=12,
).map(lambda rounds: [step for steps in rounds for step in steps])


@given(STEPS, st.integers(0, 2**32))
async def test_rows_of_a_fold_that_crashed_anywhere_agree(steps: list[Step], seed: int) -> None:
    process = Process(ANNOUNCED)
    await process.play(steps)
    await process.finish()
    of = subject(process.definition, "buying", 1.0)
    assert of is not None
    checker = Checker(of)
    for batch in polls([*process.log.records, *(r for log in ANNOUNCED.values() for r in log)], random.Random(seed)):
        checker.take(batch)
        assert [event for event in checker.work() if event is not None] == []
    orders = sum(bool(record.key) for place, log in ANNOUNCED.items() for record in log if "orders" in place[0])
    assert (checker.seen.rows, checker.seen.differing, len(checker.log)) == (orders, 0, 0)


@given(STEPS, st.integers(0, 2**32))
async def test_rows_of_live_sources_agree_in_the_order_that_was_journalled(steps: list[Step], seed: int) -> None:
    process = Process(SILENT, shop(replay=False))
    await process.play(steps)
    await process.finish()
    for _ in journal(process):
        await process.take([])
    of = subject(process.definition, "buying", 1.0)
    assert of is not None
    checker = Checker(of)
    for batch in polls([*process.log.records, *(r for log in SILENT.values() for r in log)], random.Random(seed)):
        checker.take(batch)
        assert [event for event in checker.work() if event is not None] == []
    orders = sum(len(log) for (topic, _), log in SILENT.items() if "orders" in topic)
    assert (checker.seen.rows, checker.seen.differing, len(checker.log)) == (orders, 0, 0)


def journal(process: Process) -> list[OrderJournalled]:
    """The entries of a journal, each once."""
    found: dict[int, OrderJournalled] = {}
    for record in process.log.of("evt.feature.journal"):
        fact = decode(record).fact
        assert isinstance(fact, OrderJournalled)
        found.setdefault(fact.number, fact)
    return [found[number] for number in sorted(found)]


def test_a_fraction_of_nothing_switches_the_check_off() -> None:
    assert subject(shop(), "buying", 0.0) is None


class Away(Kept):
    """Is away every other time."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    @override
    async def add_check(self, event: Event) -> None:
        """Keep it, or be away."""
        self.calls += 1
        if self.calls % 2:
            raise Unavailable("the store is away")
        await super().add_check(event)


async def test_an_event_is_stored_before_the_check_goes_on() -> None:
    checks = Away()
    checking = Checking(Checker(SUBJECT), checks)
    await checking.take(STORY.records)
    await checking.advance()
    assert (checks.events, checks.calls) == (undisturbed(), 8)


async def turns_of_others(seconds_a_step: float) -> int:
    """Return how often others have their turn while the whole story is checked, if each step takes so long."""
    checking, turns = Checking(Checker(SUBJECT), Kept(), clock=count(step=seconds_a_step).__next__), 0
    await checking.take(STORY.records)
    working = asyncio.create_task(checking.advance())
    while not working.done():
        await asyncio.sleep(0)
        turns += 1
    return turns


async def test_the_check_gives_way_while_it_works() -> None:
    assert await turns_of_others(seconds_a_step=0.0) == 1
    assert await turns_of_others(seconds_a_step=0.0001) > 10


async def test_accepted_records_wait_outside_while_the_fold_is_far_behind() -> None:
    kept = Kept()
    checking = Checking(Checker(SUBJECT), kept, most_waiting=100)
    told, accepted = by_topic("evt.feature."), by_topic("evt.data.")
    async with running(checking.work()):
        await checking.take_input(accepted[:99])
        waiting = asyncio.create_task(checking.take_input(accepted[99:200]))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert not waiting.done()
        # The journal asks for more than waits: what it asks for is let in.
        await checking.take(told)
        await waiting
        await checking.take_input(accepted[200:])
        await until(lambda: kept.events == undisturbed())


def by_topic(family: str) -> list[Taken]:
    return [record for record in STORY.records if record.topic.startswith(family)]


class Ahead:
    """A subscription that only knows what lies ahead."""

    async def run(self, on_batch: OnBatch) -> None:
        """Hand over nothing."""

    def assigned(self) -> bool:
        """Tell that there is something to read."""
        return True

    def lag(self) -> dict[tuple[str, int], int]:
        """Tell what lies ahead."""
        return {("evt.data.orders", 0): 5}


def shown(name: str) -> float | None:
    return metrics.REGISTRY.get_sample_value(name, {"feature_set": "buying"})


async def test_metrics_show_what_was_checked_and_how_far_it_is_behind() -> None:
    checking = Checking(Checker(SUBJECT), Kept())
    checking.show(Ahead())
    before = shown("mainstem_rows_checked_total") or 0.0, shown("mainstem_cells_differing_total") or 0.0
    assert shown("mainstem_checks_told") == 0
    await checking.take_input(by_topic("evt.data."))
    await checking.advance()
    checking.show(Ahead())
    assert shown("mainstem_check_behind_records") == 12 * 180 + 5
    await checking.take(by_topic("evt.feature."))
    await checking.advance()
    checking.show(Ahead())
    assert shown("mainstem_rows_checked_total") == before[0] + 10 * 90  # no event tells of the last two hours yet
    assert shown("mainstem_cells_differing_total") == before[1] + 2
    assert (shown("mainstem_check_behind_records"), shown("mainstem_checks_told")) == (5, 4)
    assert shown("mainstem_check_time_seconds") == 23 * 3600


@pytest.mark.parametrize("story", [STORY, SLOW], ids=["many rows", "few rows"])
async def test_a_check_that_begins_anew_after_every_event_tells_the_same(story: Story) -> None:
    kept, lives = Kept(), 0
    while lives <= len(kept.events):
        checker, lives = Checker(SUBJECT, await kept.last_check(SUBJECT.definition)), lives + 1
        checker.take(story.records)
        kept.events += [event for event in checker.work() if event is not None][:1]
    assert kept.events == undisturbed(story)


async def test_rows_that_are_compared_once_more_after_a_restart_are_counted_once() -> None:
    before, kept = shown("mainstem_rows_checked_total") or 0.0, Kept()
    for _ in range(3):
        checking = Checking(Checker(SUBJECT, await kept.last_check(SUBJECT.definition)), kept)
        await checking.take(STORY.records)
        await checking.advance()
    assert shown("mainstem_rows_checked_total") == before + 10 * 90


# --- values


CONTRACT = source(
    "trips",
    key="who",
    columns={
        "who": category("who"),
        "far": fixed("how far", unit="km", lo=-1e6, hi=1e6, scale=1000, nullable=True),
        "seats": fixed("how many", unit="1", lo=0, hi=99, integer=True, nullable=True),
        "left": time("when", nullable=True),
    },
)
TIMES = st.datetimes(datetime(1900, 1, 1), datetime(2200, 1, 1)).map(lambda at: at.isoformat())
OFFSETS = st.sampled_from(["Z", "z", "+00:00", "+05:30", "-1130", "-00:00"])
FRACTIONS = st.from_regex(r"\A(\.[0-9]{1,12})?\Z")


@given(TIMES, FRACTIONS, OFFSETS, st.sampled_from("Tt "))
def test_instants_are_read_as_the_contract_reads_them(whole: str, fraction: str, offset: str, between: str) -> None:
    text = whole.partition(".")[0].replace("T", between) + fraction + offset
    assert columns(f'{{"who":"a","left":"{text}"}}')["left"] == reference(f'{{"who":"a","left":"{text}"}}')["left"]


@pytest.mark.parametrize(
    "said",
    [
        '"far":1.0005,"seats":7',
        '"far":-0.0,"seats":null',
        '"far":1e-7,"other":[1,{"a":2}]',
        '"far":3',
        '"seats":0,"seats":5',
        '"who":"\\u00e9\\n","far":null',
    ],
)
def test_values_are_those_of_the_contract_and_other_fields_are_left_out(said: str) -> None:
    known = {"far": None, "seats": None, "left": None, "who": "a"}
    document = f'{{"who":"a",{said}}}'
    found = columns(document)
    assert found.keys() == known.keys()
    kept = document.replace(',"other":[1,{"a":2}]', "")
    assert found == reference(kept)


@pytest.mark.parametrize("record", ["[]", '{"seats":true}', '{"who":1}', '{"left":"soon"}', '{"left":"2013-13-01"}'])
def test_what_nobody_accepted_has_no_columns(record: str) -> None:
    payloads = Payloads(specification(spec()).streams)
    assert payloads.columns("trips", f'{{"source":"trips","record":{record}}}'.encode()) is None


def columns(record: str) -> dict[str, object]:
    found = Payloads(specification(spec()).streams).columns("trips", f'{{"contract":"c","record":{record}}}'.encode())
    assert found is not None
    return found


def reference(record: str) -> dict[str, object]:
    """Return the columns as the contract's decoder gathers them, null as None."""
    gathered = Decoder(CONTRACT).columns([record.encode()])
    found: dict[str, object] = {}
    for name, values in gathered.items():
        (value,) = values if isinstance(values, list) else values.tolist()
        missing = value != value or value == -(2**63)  # noqa: PLR0124
        found[name] = None if missing else value
    return found


def spec() -> dict[str, object]:
    columns = {
        "who": {"type": "category"},
        "far": {"type": "fixed", "unit": "km", "scale": 1000, "lo": None, "hi": None},
        "seats": {"type": "fixed", "unit": "1", "scale": 1, "lo": 0, "hi": 99},
        "left": {"type": "time"},
    }
    return {"lateness_us": 0, "streams": [{"name": "trips", "key": "who", "columns": columns}], "features": []}


def test_how_far_a_value_looks_back_is_that_of_its_farthest_part() -> None:
    windowed = {"aggregate": "sum", "window_us": 100, "hop_us": 7}
    last, decayed = {"aggregate": "last", "ttl_us": 90}, {"aggregate": "decay_mean", "horizon_us": 20}
    nested = {"op": "add", "args": [last, {"op": "neg", "args": [windowed]}]}
    assert [reach(nested, decayed), reach(decayed, last), reach({"column": "far"}), reach()] == [107, 90, 0, 0]
    assert reach(nested, {"op": "neg", "args": [{**last, "ttl_us": None}]}) is None


def reach(*values: Mapping[str, object]) -> int | None:
    features = [{"name": f"feature_{place}", "value": value} for place, value in enumerate(values)]
    return specification({**spec(), "features": features}).reach_us()
