"""A spool that cannot be read when the service starts: set aside and named, and in nobody's way."""

import asyncio
import shutil

import numpy as np
import pytest

from mainstem.bus.frames import Block, frame_of
from mainstem.bus.spool import Spool
from mainstem.bus.spool_folder import SpoolEarlier, lose
from mainstem.events.catalogue import decode
from mainstem.events.fence import Position
from mainstem.serving import spools
from mainstem.serving.blocks import ids_from
from mainstem.serving.domain import spool_name
from mainstem.serving.ports import Question
from mainstem.serving.sending import each, send_all
from mainstem.serving.spools import renew, take_over
from mainstem.storage import Checkpoint
from mainstem.telemetry import metrics
from mainstem.testkit.waiting import running, until

CAP = 1 << 20


def segments(folder):
    return sorted(folder.glob("*.blocks"))


def filled(folder, cap=CAP):
    """Return a folder with a spool of five blocks, which nobody has."""
    spool = Spool(folder, cap)
    for letter in b"abcde":
        spool.append(bytes([letter]) * 100, 1)
    spool.close()
    return folder


def flip(file, place):
    content = bytearray(file.read_bytes())
    content[place] ^= 1
    file.write_bytes(content)


def contents(folder):
    return {file.name: file.read_bytes() for file in folder.iterdir()}


#: What befalls a spool of two segments.
DAMAGE = {
    "a changed byte": lambda folder: flip(segments(folder)[-1], 30),
    "a length changed": lambda folder: flip(segments(folder)[-1], 2),
    "a full segment": lambda folder: flip(segments(folder)[0], -1),
    "an empty name": lambda folder: (folder / "incarnation").write_text(""),
    "a name gone": lambda folder: (folder / "incarnation").unlink(),
}


@pytest.mark.parametrize("number", [0, 7], ids=["of a worker", "left by one"])
@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
async def test_a_broken_spool_is_set_aside_as_it_is_and_named_and_each_worker_has_one(tmp_path, caplog, damage, number):
    broken, aside = filled(tmp_path / str(number), 8 * 360), tmp_path / f"{number}.broken-1"
    assert len(segments(broken)) == 2
    damage(broken)
    before = contents(broken)
    assert await take_over(tmp_path, 2) == [tmp_path / "0", tmp_path / "1", aside]
    assert contents(aside) == before
    assert not any(file.stat().st_size for folder in "01" for file in segments(tmp_path / folder))
    (said,) = caplog.records
    assert (said.levelname, said.spool) == ("CRITICAL", str(aside))
    assert f"is broken, and lies in {aside} now: {aside}/" in said.getMessage()
    assert metrics.SPOOLS_BROKEN._value.get() == 1


async def test_a_kill_between_setting_a_spool_aside_and_making_another_loses_nothing(tmp_path):
    flip(segments(filled(tmp_path / "0"))[0], 30)
    aside = (tmp_path / "0").rename(tmp_path / "0.broken-1")
    before = contents(aside)
    assert await take_over(tmp_path, 1) == [tmp_path / "0", aside]
    assert contents(aside) == before
    Spool(tmp_path / "0", CAP).close()


async def test_a_spool_that_was_set_aside_is_named_at_each_start_until_its_bytes_are_back(tmp_path, caplog):
    (segment,) = segments(filled(tmp_path / "0"))
    flip(segment, 30)
    spools = [await take_over(tmp_path, 1), await take_over(tmp_path, 1)]
    assert spools == 2 * [[tmp_path / "0", tmp_path / "0.broken-1"]]
    assert len(caplog.records) == 2
    flip(tmp_path / "0.broken-1" / segment.name, 30)
    assert await take_over(tmp_path, 1) == spools[0]
    assert len(caplog.records) == 2
    assert metrics.SPOOLS_BROKEN._value.get() == 0


async def test_of_a_spool_that_was_set_aside_nothing_is_cut_off_though_only_its_end_is_broken(tmp_path, caplog):
    (segment,) = segments(filled(tmp_path / "0.broken-1"))
    flip(segment, -1)
    before = segment.read_bytes()
    for starts in (1, 2):
        assert await take_over(tmp_path, 1) == [tmp_path / "0", tmp_path / "0.broken-1"]
        assert (segment.read_bytes(), len(caplog.records), metrics.SPOOLS_BROKEN._value.get()) == (before, starts, 1)


async def test_the_books_of_a_spool_that_is_set_aside_have_what_can_be_read_of_it(tmp_path):
    lost, cut = filled(tmp_path / "0"), filled(tmp_path / "1")
    lose(lost, OSError(5, "Input/output error"))
    flip(segments(cut)[-1], 3 * len(frame_of(Block(0, 1, 100 * b"a"))) + 30)
    names = [spool_name((spool / "incarnation").read_text()) for spool in (lost, cut)]
    await take_over(tmp_path, 1)
    assert [metrics.RECORDED.labels(name)._value.get() for name in names] == [5, 3]


async def test_spools_of_one_worker_that_break_one_after_the_other_lie_side_by_side(tmp_path):
    for _ in range(2):
        flip(segments(filled(tmp_path / "0"))[0], 30)
        spools = await take_over(tmp_path, 1)
    assert sorted(folder.name for folder in spools) == ["0", "0.broken-1", "0.broken-2"]


async def test_a_broken_spool_in_which_those_of_the_workers_lie_stays_where_it_is(tmp_path, caplog):
    flip(segments(filled(tmp_path))[0], 30)
    assert await take_over(tmp_path, 1) == [tmp_path / "0", tmp_path]
    assert str(tmp_path) in caplog.text


async def test_a_spool_of_an_earlier_release_is_for_that_release_to_send(tmp_path):
    (filled(tmp_path / "0") / "00000000000000000000.spool").write_bytes(b"frames")
    with pytest.raises(SpoolEarlier, match="let that release send it"):
        await take_over(tmp_path, 1)


def ask(service):
    """Have three questions of two rows answered, and return the ids of the rows of the first."""
    question = Question(model="storm", version=None, id="q", channel="http", rows=np.zeros((2, 3)))
    first, *_ = [service.answers.answer(question) for _ in range(3)]
    return ids_from(first.prediction, 2)


@pytest.mark.parametrize("sent_before", [0, 1])
async def test_what_stands_before_the_break_is_sent_under_the_name_of_the_spool(service, tmp_path, caplog, sent_before):
    await service.deploy()
    ids, name, aside = ask(service), service.spool.incarnation, tmp_path / "spools" / "0.broken-1"
    copy = shutil.copytree(service.spool._folder, tmp_path / "spools" / "0")
    (segment,) = segments(copy)
    flip(segment, segment.stat().st_size // 2)
    spools = await take_over(copy.parent, 1)

    async def checkpoint():
        return Checkpoint({(f"serving@{name}", 0): Position(sent_before)})

    broken = []
    sending = each(
        spools,
        lambda spool: send_all(spool, service.store, service.log, checkpoint),
        lambda spool, _: broken.append(spool),
    )
    async with running(sending):
        await until(lambda: f"nothing more is sent of the spool {aside}" in caplog.text)
    assert broken == [aside]
    sent = [decode(record).envelope for record in service.log.records]
    assert [(one.id, one.origin) for one in sent] == [
        (ids[number], f"serving@{name}/{number}") for number in range(sent_before, 2)
    ]


async def test_a_spool_that_is_begun_later_is_sent_from_then_on(service, tmp_path):
    await service.deploy()
    ids, late = ask(service), tmp_path / "spools" / "0"

    async def checkpoint():
        return Checkpoint({})

    async with running(send_all(late, service.store, service.log, checkpoint)):
        await asyncio.sleep(0)
        assert not late.exists()
        shutil.copytree(service.spool._folder, late)
        await until(lambda: len(service.log.records) == 6)
    assert [decode(record).envelope.id for record in service.log.records][:2] == ids


async def test_a_spool_that_lies_where_another_lay_is_sent_from_then_on(service, tmp_path):
    await service.deploy()
    ask(service)
    place = filled(tmp_path / "0")

    async def checkpoint():
        return Checkpoint({(f"serving@{earlier}", 0): Position(5)})

    earlier = (place / "incarnation").read_text()
    async with running(send_all(place, service.store, service.log, checkpoint)):
        await until(lambda: metrics.SENT.labels(spool_name(earlier))._value.get() == 5)
        place.rename(tmp_path / "aside")
        shutil.copytree(service.spool._folder, place)
        await until(lambda: len(service.log.records) == 6)


async def test_a_spool_that_comes_while_the_database_is_away_is_not_held_against_the_one_that_lay_there(
    service, tmp_path
):
    await service.deploy()
    ask(service)
    place = filled(tmp_path / "0")
    earlier = (place / "incarnation").read_text()

    async def checkpoint():
        if not (tmp_path / "aside").exists():
            place.rename(tmp_path / "aside")
            shutil.copytree(service.spool._folder, place)
        return Checkpoint({(f"serving@{earlier}", 0): Position(50)})

    async with running(send_all(place, service.store, service.log, checkpoint)):
        await until(lambda: len(service.log.records) == 6)


async def test_a_broken_spool_that_somebody_moved_away_is_not_waited_for(tmp_path):
    assert await renew(tmp_path / "0", "no name") is None
    assert (tmp_path / "0" / "incarnation").exists()


async def test_what_was_set_aside_is_told_whatever_comes_of_it_then(tmp_path, monkeypatch):
    filled(tmp_path / "0")

    def refuse(*_):
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(spools, "Tail", refuse)
    monkeypatch.setattr(spools, "sync_folder", refuse)
    monkeypatch.setattr(spools, "Spool", refuse)
    assert await renew(tmp_path / "0", "no name") == tmp_path / "0.broken-1"
