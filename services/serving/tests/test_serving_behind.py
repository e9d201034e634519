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


async def test_a_spool_that_cannot_be_read_is_left_and_the_others_are_sent(caplog):
    sent = []

    async def send(folder):
        if folder.name == "bad":
            raise SpoolCorrupt("frame 7 has another checksum")
        while True:
            sent.append(folder.name)
            await asyncio.sleep(0)

    async with running(each([Path("bad"), Path("good")], send)):
        await until(lambda: len(sent) > 3)
    assert "nothing more is sent of the spool bad: frame 7" in caplog.text


async def test_figures_are_those_of_the_processes_that_say_them_soon(tmp_path, monkeypatch):
    monkeypatch.setattr(crew, "_SOON_S", 0.1)
    several = Crew(posts(alone(tmp_path, serving_workers=2), 9))
    said, silent = asyncio.Future(), asyncio.Future()
    said.set_result(Figures(1, []))
    monkeypatch.setattr(several._workers[0], "ask", lambda _: said)
    monkeypatch.setattr(several._workers[1], "ask", lambda _: silent)
    assert await several.figures() == [said.result()]
    assert not silent.cancelled()  # it may still say them


async def test_a_worker_that_cannot_make_its_records_durable_ends(tmp_path, monkeypatch):
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
