"""How processes of serving end: told to, or by themselves because they cannot go on."""

import asyncio
import os
import socket
from contextlib import asynccontextmanager, closing
from pathlib import Path

import pytest
import uvloop
from services.serving.tests.serving_settings import alone

from mainstem.bus.spool import Spool
from mainstem.bus.spool_folder import lose
from mainstem.serving import crew as crews
from mainstem.serving import orders, worker
from mainstem.serving.crew import Crew, posts
from mainstem.serving.orders import Ask, Broken, Channel, Figures, Leaving, Sends
from mainstem.telemetry import metrics
from mainstem.testkit.waiting import running, until


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def run(request):
    """Run something on a loop, for some seconds at most."""

    def to_the_end(what):
        async def soon():
            async with asyncio.timeout(10):
                await what()

        with asyncio.Runner(loop_factory=request.param) as runner:
            runner.run(soon())

    return to_the_end


@asynccontextmanager
async def channels():
    """Return both ends of a pair."""
    ours, theirs = socket.socketpair()
    ends = await Channel.over(ours), await Channel.over(theirs)
    yield ends
    for end in ends:
        end.close()


@pytest.mark.parametrize("unread", [0, 400])
def test_who_is_not_dismissed_soon_is_alone_however_much_the_service_has_not_read(run, monkeypatch, unread):
    monkeypatch.setattr(orders, "_ALONE_S", 0.05)

    async def ask_to_leave():
        ours, theirs = socket.socketpair()
        with theirs:
            channel = await Channel.over(ours)
            for _ in range(unread):
                channel.send(Figures(0, metrics.told()))
            channel.ask_to_leave()
            assert await channel.receive() is None
            await channel.leave(Ask(1))

    run(ask_to_leave)


def test_what_is_said_when_nothing_is_sent_any_more_is_not_sent(run):
    async def say():
        async with channels() as (ours, theirs):
            ours.send(Ask(1))
            ours.close()
            ours.send(Ask(2))
            ours.ask_to_leave()
            assert [await theirs.receive(), await theirs.receive()] == [Ask(1), None]

    run(say)


async def test_a_worker_that_cannot_make_its_records_durable_says_so_and_wants_to_be_dismissed(tmp_path, monkeypatch):
    def fail(_):
        raise OSError(5, "Input/output error")

    (post,) = posts(alone(tmp_path), 9)
    ours, theirs = socket.socketpair()
    channel = await Channel.over(ours)
    channel.send(post)
    opened = []
    monkeypatch.setattr(worker, "Spool", lambda *args, **named: opened.append(Spool(*args, **named)) or opened[0])
    async with asyncio.timeout(10), running(worker.main(theirs.detach())) as ended:
        await until(lambda: opened)
        monkeypatch.setattr(os, "fdatasync", fail)
        opened[0].append(b"a", 1)
        said = [await channel.receive(), await channel.receive()]
        assert (said[0].folder, said[1]) == (post.spool, Leaving())
        assert "may not be on its disk: [Errno 5] Input/output error" in said[0].why
        channel.finish()
        while await channel.receive() is not None:
            pass
        await ended
    channel.close()


async def test_a_worker_does_not_begin_where_a_sync_failed_though_nobody_heard_of_it(tmp_path):
    settings = alone(tmp_path)
    spool = settings.spool_folder / "0"
    with closing(Spool(spool, 1 << 20)) as opened:
        opened.append(b"a", 1)
        name = opened.incarnation
    lose(spool, OSError(5, "Input/output error"))
    (post,) = posts(settings, 9)
    ours, theirs = socket.socketpair()
    channel = await Channel.over(ours)
    channel.send(post)
    with pytest.raises(SystemExit) as ended:
        await worker.main(theirs.detach())
    channel.close()
    assert ended.value.code == os.EX_DATAERR
    crew = Crew(posts(settings, 9))
    assert await crew._renew(crew._workers[0])
    assert (spool.with_name("0.broken-1") / "incarnation").read_text() == name != (spool / "incarnation").read_text()


async def test_a_spool_that_cannot_be_made_anew_ends_nobody_and_what_was_set_aside_is_sent(tmp_path, monkeypatch):
    settings = alone(tmp_path)
    spool = settings.spool_folder / "0"
    Spool(spool, 1 << 20).close()
    lose(spool, OSError(5, "Input/output error"))
    crew, sync = Crew(posts(settings, 9), sends=Sends([str(spool)])), os.fsync

    def fsync(handle):
        if Path(f"/proc/self/fd/{handle}").readlink().suffix == ".blocks":
            raise OSError(5, "Input/output error")
        sync(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    assert await crew._renew(crew._workers[0])
    assert crew._senders[0].hello == Sends([str(spool), str(spool.with_name("0.broken-1"))])


async def test_what_a_sender_says_of_a_spool_after_it_was_told_that_another_lies_there_counts_for_nothing(tmp_path):
    settings = alone(tmp_path)
    spool = str(settings.spool_folder / "0")
    crew = Crew(posts(settings, 9), sends=Sends([spool]))
    (one,), (sender,) = crew._workers, crew._senders
    sender.begin_anew(tmp_path / "aside")
    sender.take(Broken(spool, "begins with another number"))
    assert one.broken is None


async def test_a_spool_of_which_nobody_knows_what_the_disk_has_is_set_aside_and_another_begun(tmp_path):
    settings = alone(tmp_path)
    crew = Crew(posts(settings, 9))
    (one,), spool = crew._workers, settings.spool_folder / "0"
    with closing(Spool(spool, 1 << 20)) as opened:
        opened.append(b"a", 1)
        name = opened.incarnation
    one.take(Broken(one.spool, "the disk has lost it"))
    one.take(Broken(one.spool, "said again"))
    assert one.broken == "the disk has lost it"
    await crew._renew(one)
    assert (spool.with_name("0.broken-1") / "incarnation").read_text() == name
    with closing(Spool(spool, 1 << 20)) as another:
        assert (another.next_number, another.incarnation == name) == (0, False)


async def test_a_worker_whose_spool_is_called_broken_while_it_is_looked_at_does_not_begin_in_it(tmp_path, monkeypatch):
    several = Crew(posts(alone(tmp_path), 9))
    (one,) = several._workers

    async def looked_at(*_):
        one.take(Broken(one.spool, "a byte is another"))

    with monkeypatch.context() as patched:
        patched.setattr(crews, "renew", looked_at)
        assert not await several._renew(one)
    assert one.broken == "a byte is another"
    assert await several._renew(one)
    assert one.broken is None


async def test_a_sender_that_gave_up_a_spool_begins_anew_though_somebody_moved_that_away(tmp_path):
    settings = alone(tmp_path)
    spool = str(settings.spool_folder / "0")
    several = Crew(posts(settings, 9), sends=Sends([spool]))
    (one,), (sender,) = several._workers, several._senders
    one.broken = "a byte is another"
    assert await several._renew(one)
    assert (sender.dismissed, sender.hello) == (True, Sends([spool]))
