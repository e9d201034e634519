"""What goes on behind the answers: a fault of it stops nothing else, and is not kept quiet."""

import asyncio
import socket
from pathlib import Path

import pytest
from services.serving.tests.serving_settings import alone

from mainstem.bus.spool import SpoolCorrupt
from mainstem.serving import crew, worker
from mainstem.serving.crew import Crew, posts
from mainstem.serving.orders import Channel, Figures
from mainstem.serving.sending import each
from mainstem.testkit.waiting import running, until

_PAIR = socket.socketpair


async def test_a_spool_that_cannot_be_read_is_left_and_the_others_are_sent(caplog):
    sent, broken = [], []

    async def send(folder):
        if folder.name == "bad":
            raise SpoolCorrupt("frame 7 has another checksum")
        while True:
            sent.append(folder.name)
            await asyncio.sleep(0)

    async with running(
        each([Path("bad"), Path("good")], send, lambda folder, why: broken.append((folder.name, str(why))))
    ):
        await until(lambda: len(sent) > 3)
    assert "nothing more is sent of the spool bad: frame 7" in caplog.text
    assert broken == [("bad", "frame 7 has another checksum")]


async def test_of_a_process_that_does_not_say_its_figures_soon_those_count_that_it_said_last(tmp_path, monkeypatch):
    monkeypatch.setattr(crew, "_SOON_S", 0.1)
    several = Crew(posts(alone(tmp_path, serving_workers=2), 9))
    said, silent = asyncio.Future(), asyncio.Future()
    said.set_result(None)
    for one, reply in zip(several._workers, (said, silent), strict=True):
        monkeypatch.setattr(one, "ask", lambda _, reply=reply: reply)
        one.take(Figures(1, f"of {one.name}"))
    assert [figures.metrics for figures in await several.figures()] == ["of worker 0", "of worker 1"]
    assert not silent.cancelled()  # it may still say more


async def test_a_process_that_cannot_be_started_leaves_no_socket_open(tmp_path, monkeypatch):
    made = []

    def pair():
        made.extend(both := _PAIR())
        return both

    async def begin(*_, **__):
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(socket, "socketpair", pair)
    monkeypatch.setattr(asyncio, "create_subprocess_exec", begin)
    (worker,) = Crew(posts(alone(tmp_path), 9))._workers
    with pytest.raises(BlockingIOError):
        await worker.live(list)
    assert [end.fileno() for end in made] == [-1, -1]


async def test_a_onethat_cannot_make_its_records_durable_ends(tmp_path, monkeypatch):
    async def failing(_):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(worker, "keep_synced", failing)
    ours, theirs = socket.socketpair()
    (post,) = posts(alone(tmp_path), 9)
    channel = await Channel.over(ours)
    channel.send(post)
    with pytest.raises(ExceptionGroup) as ended:
        await worker.main(theirs.detach())
    assert ended.group_contains(OSError)
    channel.close()
