"""Arms: versions that share the direct calls of a model, and shadows that score behind them."""

import asyncio
import gc
from collections import Counter
from dataclasses import replace

import msgspec
import numpy as np
import orjson
import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mainstem.bus.spool_tail import Tail
from mainstem.events.catalogue import decode
from mainstem.events.envelope import Event
from mainstem.events.registry import DeploymentArm
from mainstem.events.serving import DeploymentActivated, DeploymentRefused, Predicted, ShadowScored
from mainstem.inference.errors import NotReady, Unknown
from mainstem.serving import shadows
from mainstem.serving.arms import Route, place
from mainstem.serving.blocks import unpack
from mainstem.serving.domain import WHOLE, Activation, Arm, Tallies
from mainstem.serving.engine import Model
from mainstem.serving.ports import Question
from mainstem.telemetry import metrics
from mainstem.testkit.waiting import running, until

ROWS = np.array([[1.0, np.nan, 3.0], [0.0, 0.5, -1.0]])
#: What each version adds to the odds.
BIAS = {1: 0.5, 2: -1.0, 3: 2.0}


def question(number=0, *, version=None, entity=None, rows=ROWS):
    return Question("storm", version, f"q{number}", "http", rows, entity)


def ask(service, *questions):
    found = service.answers.answer_all(questions)
    assert not [each for each in found if isinstance(each, Exception)], found
    return found


def digest(service, make, version):
    return service.artifacts.put(make.onnx_model(bias=BIAS[version]))


async def deploy(service, make, *arms, led_by=None, place=2, salt="spring"):
    """Deploy version 1 with arms (version, weight, shadow), led by a promotion of the first of them unless said."""
    beside = [
        DeploymentArm(
            version=number, onnx=digest(service, make, number), profile=make.profile, weight=weight, shadow=shadow
        )
        for number, weight, shadow in arms
    ]
    for version in (1, *(arm.version for arm in beside)):
        await service.store.apply(make.approval(version, digest(service, make, version)))
    promoted = make.promotion(led_by or arms[0][0])
    await service.store.apply(Event(replace(promoted.envelope, id=f"promotion {place}"), promoted.fact))
    await service.store.apply(
        make.deployment(1, digest(service, make, 1), place=place, arms=beside, salt=salt, at=make.may)
    )
    await service.deployments.decide()
    return (
        service.store.verdicts[f"deployment {place}"].fact if f"deployment {place}" in service.store.verdicts else None
    )


@pytest.fixture
async def live(service):
    """Version 1 answers alone."""
    await service.deploy(1, bias=BIAS[1])


def scored(answers, make):
    """Return by which version's model each answer was computed."""
    return [
        next(v for v, bias in BIAS.items() if np.allclose(a.probabilities[:, 1], make.expected(ROWS, bias)))
        for a in answers
    ]


@pytest.mark.usefixtures("live")
async def test_entities_are_shared_out_by_weight_and_each_answer_is_of_the_version_that_it_names(service, make):
    await deploy(service, make, (2, 2_500, False))
    fact = await deploy(service, make, (2, 2_500, False), (3, 500, False), led_by=3, place=3)
    assert isinstance(fact, DeploymentActivated)
    answers = ask(service, *(question(number, entity=f"tail {number}") for number in range(4000)))
    assert scored(answers, make) == [answer.version for answer in answers]
    shares = Counter(answer.version for answer in answers)
    assert shares[2] / 4000 == pytest.approx(0.25, abs=0.025)
    assert shares[3] / 4000 == pytest.approx(0.05, abs=0.015)
    assert [answer.id for answer in answers] == [f"q{number}" for number in range(4000)]


@pytest.mark.usefixtures("live")
async def test_an_entity_stays_with_its_arm_and_an_arm_that_grows_keeps_its_entities(service, make):
    await deploy(service, make, (2, 1_000, False))
    asked = [question(number, entity=f"tail {number % 500}") for number in range(1000)]
    few = [answer.version for answer in ask(service, *asked)]
    assert few[:500] == few[500:]
    await deploy(service, make, (2, 4_000, False), place=3)
    many = [answer.version for answer in ask(service, *asked[:500])]
    assert {later for earlier, later in zip(few, many, strict=False) if earlier == 2} == {2}
    assert many.count(2) > few[:500].count(2)


@pytest.mark.usefixtures("live")
async def test_a_version_in_the_path_reaches_any_arm_and_no_other(service, make):
    await deploy(service, make, (2, 0, False), (3, 0, True))
    for version in (1, 2, 3):
        assert ask(service, question(version=str(version)))[0].version == version
    assert {answer.version for answer in ask(service, *(question(number) for number in range(200)))} == {1}
    with pytest.raises(Unknown, match="answers in version 1, 2, 3, not '4'"):
        service.answers.answer(question(version="4"))
    assert [(each.version, each.state) for each in service.board.index({})] == [(v, "READY") for v in "123"]


@pytest.mark.usefixtures("live")
async def test_what_answered_before_is_warm_and_answers_nobody(service, make):
    await deploy(service, make, (2, 5_000, False))
    await service.deploy(3, bias=BIAS[3])
    assert {each.version for each in service.board.before()} == {1, 2}
    assert all(service.board.has(each.onnx) for each in service.board.before())
    with pytest.raises(Unknown, match="answers in version 3, not '1'"):
        service.answers.answer(question(version="1"))


@pytest.mark.usefixtures("live")
async def test_an_arm_that_is_not_loaded_is_the_trouble_of_its_own_calls(service, make):
    await deploy(service, make, (2, 5_000, False))
    service.board.keep({digest(service, make, 1)})
    found = service.answers.answer_all([question(number, entity=f"tail {number}") for number in range(100)])
    assert {getattr(each, "version", type(each).__mro__[1]) for each in found} == {1, NotReady}


@pytest.mark.parametrize(
    ("arms", "said"),
    [
        ([(2, 6_000, False), (3, 5_000, False)], "weights make 11000 of 10000"),
        ([(2, 1, True)], "a shadow has weight 0"),
        ([(2, -1, False)], "weight below 0"),
        ([(1, 0, False)], "names a version twice"),
    ],
)
@pytest.mark.usefixtures("live")
async def test_arms_that_cannot_stand_beside_each_other_are_refused(service, make, arms, said):
    fact = await deploy(service, make, *arms)
    assert isinstance(fact, DeploymentRefused)
    assert (fact.rule, said in fact.reason) == ("arms", True)


@pytest.mark.usefixtures("live")
async def test_every_version_must_be_approved_and_loadable(service, make):
    broken = service.artifacts.put(make.onnx_model(width=2))
    arm = DeploymentArm(version=2, onnx=broken, profile=make.profile, weight=100, shadow=False)
    for event in (make.promotion(2), make.deployment(1, digest(service, make, 1), place=2, arms=[arm])):
        await service.store.apply(event)
    await service.store.apply(make.approval(1, digest(service, make, 1)))
    await service.deployments.decide()
    assert service.store.verdicts.keys() == {"deployment 1"}  # it waits for the approval of the arm
    await service.store.apply(make.approval(2, broken))
    await service.deployments.decide()
    assert service.store.verdicts["deployment 2"].fact.rule == "signature"
    assert {answer.version for answer in ask(service, question())} == {1}


@pytest.mark.usefixtures("live")
async def test_what_answers_was_promoted_and_a_shadow_need_not_be(service, make):
    assert await deploy(service, make, (2, 100, False), (3, 0, True), led_by=2) is not None
    assert await deploy(service, make, (2, 100, False), (3, 100, False), led_by=2, place=3) is None
    assert await deploy(service, make, (2, 100, False), (3, 100, False), led_by=3, place=4) is not None


@pytest.mark.usefixtures("live")
async def test_the_stream_is_answered_by_the_version_that_was_activated(service, make):
    await deploy(service, make, (2, 10_000, False), (3, 0, True))
    await service.take(*(make.row(number, entity=f"tail {number}") for number in range(20)))
    events = [decode(record).fact for record in service.log.of(make.predictions)]
    assert {event.version for event in events if isinstance(event, Predicted)} == {1}


def recorded(service):
    return [decode(record) for record in service.log.append(service.spooled())]


@pytest.mark.usefixtures("live")
async def test_a_shadow_scores_what_was_answered_and_its_record_is_no_answer(service, make):
    await deploy(service, make, (2, 0, True))
    answers = ask(service, question(1, entity="LGA"), question(2))
    ask(service, question(3, version="1"))  # who names a version is no part of the comparison
    assert not [event for event in recorded(service) if isinstance(event.fact, ShadowScored)]
    async with running(service.answers.shadows.run()):
        await until(lambda: len(service.spooled()) > 6)
    seen = [event for event in recorded(service)[6:] if isinstance(event.fact, ShadowScored)]
    first = int(answers[0].prediction[16:], 16)
    ids = [f"{answers[0].prediction[:16]}{number:016x}" for number in range(first, first + 4)]
    assert [event.fact.answer for event in seen][-4:] == ids
    assert [event.envelope.causation for event in seen][-4:] == ids
    assert [event.fact.score for event in seen][-4:] == pytest.approx([*make.expected(ROWS, BIAS[2])] * 2)
    assert {(event.fact.version, event.fact.entity, event.envelope.correlation) for event in seen} == {
        (2, "LGA", "q1"),
        (2, None, "q2"),
    }
    assert sum(tally.n for tally in Tallies.of(service.spooled()).values()) == 6


def skipped(reason):
    return metrics.SHADOW_SKIPPED.labels("storm", 2, reason)._value.get()


@pytest.mark.usefixtures("live")
async def test_a_shadow_that_falls_behind_skips_rows_and_says_how_many(service, make, monkeypatch):
    await deploy(service, make, (2, 0, True))
    late, many = skipped("late"), skipped("too_many")
    monkeypatch.setattr(shadows, "LAG_S", 0.0)
    monkeypatch.setattr(shadows, "MOST_ROWS", 3)
    for number in range(3):
        ask(service, question(number))
    async with running(service.answers.shadows.run()):
        await until(lambda: skipped("late") - late == 2)
    assert skipped("too_many") - many == 4


@pytest.mark.usefixtures("live")
async def test_a_shadow_that_fails_on_a_call_skips_it_and_scores_the_others(service, make):
    await deploy(service, make, (2, 0, True))
    shadow = service.board.route("storm").shadows[0]
    service.board.load(shadow.onnx, Model(make.onnx_model(bias=BIAS[2], known=4), 3))
    before = skipped("failed")
    ask(service, question(1), question(2, rows=np.array([[0.0, 9.0, 0.0]] * 3)), question(3))
    async with running(service.answers.shadows.run()):
        await until(lambda: len(service.spooled()) == 7 + 4)
    seen = [event for event in recorded(service)[7:] if isinstance(event.fact, ShadowScored)]
    assert [event.envelope.correlation for event in seen] == ["q1", "q1", "q3", "q3"]
    assert [event.fact.score for event in seen] == pytest.approx([*make.expected(ROWS, BIAS[2])] * 2)
    assert skipped("failed") - before == 3


@pytest.mark.usefixtures("live")
async def test_a_shadow_without_room_in_the_spool_costs_no_answer(service, make, spool, monkeypatch):
    await deploy(service, make, (2, 0, True))
    before = skipped("no_room")
    ask(service, question())
    monkeypatch.setattr(spool, "_cap", 0)
    async with running(service.answers.shadows.run()):
        await until(lambda: skipped("no_room") == before + 2)


@pytest.mark.usefixtures("live")
async def test_a_slow_shadow_keeps_no_answer_waiting(service, make):
    await deploy(service, make, (2, 0, True))
    release, held = asyncio.Event(), asyncio.get_running_loop()
    slow = service.board.model(service.board.route("storm").shadows[0])
    real = slow.probabilities

    def held_up(rows):
        asyncio.run_coroutine_threadsafe(release.wait(), held).result()
        return real(rows)

    slow.probabilities = held_up
    async with running(service.answers.shadows.run()):
        for number in range(50):
            ask(service, question(number))
            await asyncio.sleep(0)
        assert len(service.spooled()) == 100
        release.set()
        await until(lambda: len(service.spooled()) == 200)


async def test_a_block_that_an_earlier_release_left_is_read(spool):
    calls = [(1, "q", "http", None, None)]
    half = np.array([0.5]).tobytes()
    number = spool.append(msgspec.msgpack.encode(["t", b'{"a":1', "now", "t/0/1", calls, 1, half, half]), 1)
    tail = Tail(spool._folder)
    (message,) = unpack(spool.incarnation, tail.read(number)[0])
    assert orjson.loads(message.value) == {
        "a": 1, "channel": "http", "entity": None, "position": "t/0/1", "row": None, "features": [0.5], "score": 0.5
    }  # fmt: skip


@pytest.mark.alone
async def test_a_thousand_versions_come_and_go_and_leave_nothing_behind(service, make):
    """Each is loaded, answers, and is forgotten; what is left after the first 200 is left after all.

    Measured in a young process: in one that ran thousands of tests, the heap of those moves beside it.
    """
    width, sizes = 2000, []
    contents = [make.onnx_model(width=width, bias=bias) for bias in (0.0, 1.0)]
    rows, process = np.zeros((1, width)), psutil.Process()
    service.board.let_drop({"storm"})  # the spool of a test is small
    for number in range(1000):
        name = f"sha256:{number}"
        service.board.load(name, Model(contents[number % 2], width))
        service.board.swap([Activation(f"d{number}", "storm", 1, name, "gusts", "f", ("x",) * width, 0, {})])
        service.board.keep({name})
        ask(service, *(question(each, rows=rows) for each in range(2)))
        if number % 50 == 49:
            gc.collect()
            sizes.append(process.memory_info().rss / 2**20)
    growth = np.polyfit(range(16), sizes[4:], 1)[0] * 16
    assert growth < 2, f"800 models of {len(contents[0]) / 2**10:.0f} KiB left {growth:.1f} MiB: {sizes}"


@given(st.text(max_size=20), st.text(max_size=20))
def test_a_place_is_one_of_all_and_always_the_same(salt, key):
    assert 0 <= place(salt, key) == place(salt, key) < WHOLE


@given(st.lists(st.integers(0, 2_500), max_size=4), st.text(max_size=8))
def test_shares_are_what_the_weights_say(weights, salt):
    arms = tuple(Arm(number + 2, "", weight, shadow=False) for number, weight in enumerate(weights))
    route = Route(Activation("d", "m", 1, "", "f", "f", (), 0, {}, arms, salt))
    keys = [f"entity {number}" for number in range(2000)]
    shares = Counter(route.of(key).version for key in keys)
    wanted = {arm.version: arm.weight for arm in arms} | {1: WHOLE - sum(weights)}
    for version, weight in wanted.items():
        share = weight / WHOLE
        assert abs(shares[version] / 2000 - share) <= 6 * (share * (1 - share) / 2000) ** 0.5
