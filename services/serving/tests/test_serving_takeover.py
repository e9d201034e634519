"""A version on another feature set takes over: each record is answered once, whatever is read, stored or killed."""

from collections import Counter
from random import Random

import pytest

from mainstem.events.catalogue import decode
from mainstem.events.data import ProgressReached
from mainstem.events.fence import Fence
from mainstem.events.instants import parse, render
from mainstem.events.serving import Predicted
from mainstem.telemetry import metrics

SECOND_TOPIC = "evt.feature.gusts.v2"
S = 1_000_000


@pytest.fixture
def both(service, make):
    """Return the service with a model that reads both versions of the set."""
    service.board.readers = {make.topic: ["storm"], SECOND_TOPIC: ["storm"]}
    return service


def first_copies(service):
    """Return the events in the log as a fenced reader sees them."""
    fresh, _ = Fence().admit(service.log.records)
    return [decode(record) for record in fresh]


def answered(service):
    """Return (recorded second, version) of every prediction, in order of time."""
    found = [event for event in first_copies(service) if isinstance(event.fact, Predicted)]
    return sorted((event.envelope.recorded_us, event.fact.version) for event in found)


def seconds(make, answers):
    return [((at - make.may) // S, version) for at, version in answers]


def announced(service, make):
    """Return the seconds that the prediction topic announces, in order."""
    facts = [event.fact for event in first_copies(service)]
    return [(parse(fact.until) - make.may) / S for fact in facts if isinstance(fact, ProgressReached)]


async def test_rows_before_the_deployment_are_the_old_version_s_and_from_it_on_the_new_one_s(both, make):
    await both.deploy(1)
    await both.deploy(2, at=make.may + 3 * S, reads=make.second)
    await both.take(*map(make.row, range(6)))
    await both.take(*(make.row(offset, definition=make.second) for offset in range(6)))
    assert seconds(make, answered(both)) == [(0, 1), (1, 1), (2, 1), (3, 2), (4, 2), (5, 2)]


async def test_rows_of_the_new_set_from_before_the_deployment_are_not_answered_and_not_missed(both, make):
    await both.deploy(1)
    await both.take(*(make.row(offset, definition=make.second) for offset in range(3)))
    assert both.log.records == []
    await both.take(*map(make.row, range(3)))
    fact = await both.deploy(2, at=make.may + 3 * S, reads=make.second)
    await both.take(make.row(3), make.row(3, definition=make.second))
    assert fact.effective_from == render(make.may + 3 * S)
    assert seconds(make, answered(both)) == [(0, 1), (1, 1), (2, 1), (3, 2)]


@pytest.mark.parametrize("ahead", ["the old set", "the new set"])
async def test_what_was_seen_before_the_deployment_came_stays_with_the_old_version(both, make, ahead):
    await both.deploy(1)
    far, near = (None, make.second) if ahead == "the old set" else (make.second, None)
    rows = {reads: [make.row(i, **({"definition": reads} if reads else {})) for i in range(8)] for reads in (far, near)}
    await both.take(*rows[far][:6])
    fact = await both.deploy(2, at=make.may + 3 * S, reads=make.second)
    await both.take(*rows[near], *rows[far][6:])
    assert fact.effective_from == render(make.may + 5 * S + 1)
    assert [version for _, version in answered(both)] == [1, 1, 1, 1, 1, 1, 2, 2]


async def test_a_rollback_goes_back_in_the_same_way(both, make):
    await both.deploy(1)
    await both.deploy(2, at=make.may + 2 * S, reads=make.second)
    await both.deploy(3, at=make.may + 4 * S)
    await both.take(*map(make.row, range(6)), *(make.row(offset, definition=make.second) for offset in range(6)))
    assert [version for _, version in answered(both)] == [1, 1, 2, 2, 3, 3]


async def test_what_an_earlier_process_published_and_did_not_store_was_seen(both, make):
    await both.deploy(1)
    both.past.rows = [make.row(offset) for offset in range(5)]
    await both.take(*both.past.rows)
    again = both.restarted()
    await again.deployments.restore()
    fact = await again.deploy(2, at=make.may + 2 * S, reads=make.second)
    assert fact.effective_from == render(make.may + 4 * S + 1)


async def test_a_version_on_the_same_set_is_in_effect_as_asked_whatever_was_seen(both, make):
    await both.deploy(1)
    await both.take(*map(make.row, range(6)))
    fact = await both.deploy(2, at=make.may + 2 * S)
    assert fact.effective_from == render(make.may + 2 * S)


async def test_a_marker_of_the_new_set_waits_for_the_old_one_to_end(both, make):
    await both.deploy(1)
    await both.deploy(2, at=make.may + 3 * S, reads=make.second)
    await both.take(
        make.marker(0, make.may + 2 * S, topic=SECOND_TOPIC), make.marker(1, make.may + 9 * S, topic=SECOND_TOPIC)
    )
    assert both.log.records == []
    await both.take(make.marker(0, make.may + 1 * S))
    assert announced(both, make) == [1]
    await both.take(make.marker(1, make.may + 4 * S))
    assert announced(both, make) == [1, 3 - 1e-6, 9]
    await both.take(make.marker(2, make.may + 8 * S), make.marker(2, make.may + 10 * S, topic=SECOND_TOPIC))
    assert announced(both, make) == [1, 3 - 1e-6, 9, 10]


async def test_how_far_the_sets_were_announced_survives_a_restart(both, make):
    await both.deploy(1)
    await both.deploy(2, at=make.may + 3 * S, reads=make.second)
    await both.take(make.marker(0, make.may + 9 * S, topic=SECOND_TOPIC))
    await both.stream.checkpoint(both.store)
    again = both.restarted()
    await again.deployments.restore()
    await again.take(make.marker(0, make.may + 4 * S))
    assert announced(again, make) == [3 - 1e-6, 9]


def unscored():
    return metrics.UNSCORED.labels("storm")._value.get()


async def test_rows_whose_record_another_version_answers_do_not_count_as_unanswered(both, make):
    before = unscored()
    await both.take(make.row(0))
    await both.deploy(1)
    await both.take(make.row(1), make.row(1, definition=make.second))
    assert unscored() - before == 1


class Killed(Exception):
    """The process was killed while it published."""


class Dying:
    """A bus that takes the first few messages of each partition, and then the process is no more."""

    def __init__(self, log, random):
        self.log, self.random = log, random

    async def publish(self, messages):
        for partition in (0, 1):
            of_partition = [message for message in messages if message.partition == partition]
            self.log.append(of_partition[: self.random.randint(0, len(of_partition))])
        raise Killed


class Story:
    """Rows of the same records in two topics, a service that reads them in any order, and what befalls it."""

    RECORDS = 30
    #: Versions, when each is asked to answer, and from which set.
    PLAN = ((2, 8, True), (3, 17, False), (4, 22, True), (5, 24, True))

    def __init__(self, service, make, seed):
        self.service, self.make, self.random = service, make, Random(seed)
        self.times = {p: sorted(self.random.choices(range(self.RECORDS), k=self.RECORDS)) for p in (0, 1)}
        self.log = {(topic, p): self._records(topic, p) for topic in (make.topic, SECOND_TOPIC) for p in (0, 1)}
        service.past.rows = [record for records in self.log.values() for record in records]
        self.next = dict.fromkeys(self.log, 0)
        self.plan = list(self.PLAN)

    def _records(self, topic, partition):
        """Return the rows of a partition with markers between them that tell the truth."""
        make, records = self.make, []
        definition = {"definition": make.second} if topic == SECOND_TOPIC else {}
        for number, at in enumerate(self.times[partition]):
            here = {"partition": partition, "at": make.may + at * S}
            records.append(make.row(len(records), entity=f"{partition}/{number}", **here, **definition))
            following = [*self.times[partition], self.RECORDS][number + 1]
            if (following > at and self.random.random() < 0.4) or number == self.RECORDS - 1:
                until = make.may + following * S - 1
                records.append(make.marker(len(records), until, partition=partition, topic=topic))
        return records

    async def run(self):
        """Let things happen until all is read and every version is deployed."""
        await self.service.deploy(1)
        while self.plan or any(self.next[place] < len(records) for place, records in self.log.items()):
            happening = self.random.choice([self.read, self.read, self.read, self.store, self.deploy, self.die])
            await happening()

    def batch(self):
        """Return the next few records of some partitions."""
        taken = []
        for place in self.random.sample(sorted(self.log), self.random.randint(1, 4)):
            count = self.random.randint(0, 9)
            taken += self.log[place][self.next[place] : self.next[place] + count]
        return taken

    async def read(self):
        records = self.batch()
        if records:
            await self.service.take(*records)
            self.next |= {(r.topic, r.partition): r.offset + 1 for r in records}

    async def store(self):
        await self.service.stream.checkpoint(self.service.store)

    async def deploy(self):
        late = max(self.times[0][min(self.next[self.make.topic, 0], self.RECORDS - 1)] - 6, 0)
        if self.plan and (self.plan[0][1] <= late or self.random.random() < 0.1):
            version, at, second = self.plan.pop(0)
            reads = {"reads": self.make.second} if second else {}
            await self.service.deploy(version, at=self.make.may + at * S, **reads)

    async def die(self):
        """Kill the process, in the middle of a batch if there is one, and start another from what is stored."""
        if self.random.random() < 0.5 and (records := self.batch()):
            with pytest.raises(Killed):
                await self.service.stream.on_records(records, publisher=Dying(self.service.log, self.random))
        self.service = self.service.restarted()
        await self.service.deployments.restore()
        self.next = dict.fromkeys(self.log, 0) | self.service.stream.offsets()


@pytest.fixture(params=range(12))
async def story(request, both, make):
    """A story with reading, storing, deploying and dying in any order."""
    story = Story(both, make, request.param)
    await story.run()
    return story


async def test_every_record_is_answered_once_through_takeovers_and_deaths(story):
    events = [event for event in first_copies(story.service) if isinstance(event.fact, Predicted)]
    counts = Counter(event.fact.entity for event in events)
    assert counts == {f"{partition}/{number}": 1 for partition in (0, 1) for number in range(story.RECORDS)}


async def test_every_record_is_answered_by_the_version_in_effect(story):
    changes = [
        (one.effective_us, one.version, one.feature_definition) for one in await story.service.store.activations()
    ]
    assert changes == sorted(changes)
    for event in first_copies(story.service):
        if isinstance(event.fact, Predicted):
            at = event.envelope.recorded_us
            sets = [reads for since, _, reads in changes if since <= at]
            assert event.fact.feature_definition == sets[-1]


async def test_the_markers_tell_the_truth_and_reach_the_end(story):
    reached = {0: 0, 1: 0}
    fresh, _ = Fence().admit(story.service.log.records)
    for record in fresh:
        event = decode(record)
        if isinstance(event.fact, Predicted):
            assert event.envelope.recorded_us > reached[record.partition]
        else:
            reached[record.partition] = max(parse(event.fact.until), reached[record.partition])
    assert set(reached.values()) == {story.make.may + story.RECORDS * S - 1}
