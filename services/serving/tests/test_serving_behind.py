"""What goes on behind the answers: a fault of it stops nothing else, and is not kept quiet."""

import asyncio
import os
import socket
import threading
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import httpx
import orjson
import pytest
from services.serving.tests.serving_settings import alone
from starlette.applications import Starlette

from mainstem.bus.spool import Spool
from mainstem.bus.spool_folder import SpoolCorrupt
from mainstem.serving import crew, reports, sender, worker
from mainstem.serving.api import metrics_of
from mainstem.serving.crew import Crew, posts
from mainstem.serving.orders import Ask, Channel, Figures, Sends
from mainstem.serving.paced import Paced
from mainstem.serving.reports import Reports
from mainstem.serving.sending import each
from mainstem.telemetry import Tracer, metrics
from mainstem.telemetry.told import Told
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
        each([Path("bad"), Path("good")], send, lambda folder, why: broken.append((folder.name, str(why))), again_s=0)
    ):
        await until(lambda: len(sent) > 3)
    assert "nothing more is sent of the spool bad: frame 7" in caplog.text
    assert broken == [("bad", "frame 7 has another checksum")]


async def test_a_spool_that_the_system_refuses_is_tried_again_and_keeps_no_other_waiting(caplog):
    sent = []

    async def send(folder):
        if folder.name == "bad" and sent.count("good") < 3:
            raise OSError(30, "Read-only file system")
        while True:
            sent.append(folder.name)
            await asyncio.sleep(0)

    async with running(each([Path("bad"), Path("good")], send, lambda *_: None, again_s=0)):
        await until(lambda: "bad" in sent)
    assert "the spool bad: [Errno 30] Read-only file system; that is tried again" in caplog.text


async def test_of_a_process_that_does_not_say_its_figures_soon_those_count_that_it_said_last(tmp_path, monkeypatch):
    monkeypatch.setattr(crew, "_SOON_S", 0.1)
    several = Crew(posts(alone(tmp_path, serving_workers=2), 9))
    said, silent = asyncio.Future(), asyncio.Future()
    said.set_result(None)
    for one, reply in zip(several._workers, (said, silent), strict=True):
        monkeypatch.setattr(one, "ask", lambda _, reply=reply: reply)
        one.take(Figures(1, Told({}, {}, {}, {}), {one.name: 1}))
    assert [figures.recorded for figures in await several.figures()] == [{"worker 0": 1}, {"worker 1": 1}]
    assert not silent.cancelled()  # it may still say more


async def test_processes_say_their_figures_once_to_all_who_ask_at_once(tmp_path, monkeypatch):
    (worker,) = (several := Crew(posts(alone(tmp_path), 9)))._workers
    asked = []

    def ask(message):
        asked.append(message)
        reply = asyncio.Future()
        reply.set_result(None)
        return reply

    monkeypatch.setattr(worker, "ask", ask)
    await asyncio.gather(*(several.figures() for _ in range(8)), *(several.usage() for _ in range(8)))
    assert len(asked) == 1


async def test_a_worker_asks_once_for_all_who_want_statistics_and_again_for_who_comes_later(tmp_path, monkeypatch):
    with closing(Spool(tmp_path / "spool", 1 << 20)) as spool, closing(Tracer("serving", None)) as tracer:
        one, asked = worker.Worker(posts(alone(tmp_path), 9)[0], spool, tracer), []

        async def get(path):
            asked.append(path)
            await asyncio.sleep(0)
            return 200, orjson.dumps({"model_stats": [{"name": str(len(asked))}]})

        monkeypatch.setattr(one._upstream, "get", get)
        first = asyncio.create_task(one._statistics())
        await until(lambda: asked)
        told = await asyncio.gather(first, *(one._statistics() for _ in range(50)))
    assert [said[0]["name"] for said in told] == ["1", *50 * ["2"]]
    assert asked == 2 * ["/v2/models/stats"]


async def test_metrics_become_text_once_for_all_who_ask_and_elsewhere_than_on_the_loop(monkeypatch):
    made, figures = [], [Figures(1, Told({}, {}, {}, {}))]

    def exposition(others, accept):
        made.append((others, accept, threading.current_thread() is threading.main_thread()))
        return metrics.Exposition(b"", accept)

    async def known():
        return figures

    monkeypatch.setattr(metrics, "exposition", exposition)
    page = Starlette(routes=[metrics_of(SimpleNamespace(figures=known))])
    async with httpx.AsyncClient(transport=httpx.ASGITransport(page), base_url="http://here") as client:
        accepted = ["text/plain", "application/openmetrics-text"] * 8
        await asyncio.gather(*(client.get("/metrics", headers={"accept": each}) for each in accepted))
        assert sorted(made) == [([figures[0].metrics], accept, False) for accept in sorted(set(accepted))]
        figures = [Figures(2, Told({}, {}, {}, {}))]
        await client.get("/metrics", headers={"accept": "text/plain"})
        assert len(made) == 3


async def test_nobody_is_given_what_was_made_before_the_question_and_it_is_not_made_more_often_than_it_may_be():
    begun = []

    async def make():
        begun.append(asyncio.get_running_loop().time())
        await asyncio.sleep(0)
        return len(begun)

    paced = Paced(make, each_s=0.05)
    assert await asyncio.gather(*(paced.get() for _ in range(5))) == [1] * 5
    assert await asyncio.gather(*(paced.get() for _ in range(5))) == [2] * 5
    assert begun[1] - begun[0] >= 0.05


async def test_who_leaves_while_something_is_made_takes_it_from_nobody():
    async def make():
        await asyncio.sleep(0.01)
        return "made"

    paced = Paced(make, each_s=0.01)
    leaving, staying = (asyncio.create_task(paced.get()) for _ in range(2))
    await asyncio.sleep(0)
    leaving.cancel()
    assert await staying == "made"


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


async def test_a_worker_says_what_it_counted_unasked_and_nothing_while_it_counts_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(reports, "_SAY_S", 0.01)
    heard = []
    with closing(Spool(tmp_path / "spool", 1 << 20)) as spool, closing(Tracer("serving", None)) as tracer:
        one = worker.Worker(posts(alone(tmp_path), 9)[0], spool, tracer)
        looked = []
        says = Reports(
            SimpleNamespace(send=heard.append), lambda serial: (looked.append(serial), one.figures(serial))[1]
        )
        async with running(says.run()):
            await until(lambda: len(looked) > 3)
            assert heard == []
            metrics.CALLS.labels("said", "1", "http").inc(3)
            await until(lambda: heard)
    (figures,) = heard
    assert (figures.serial, figures.metrics.counts["mainstem_calls"]["said", "1", "http"]) == (0, 3)


async def test_the_sender_says_what_it_counted_unasked_and_once_more_before_it_ends(monkeypatch):
    async def send(*_):
        await asyncio.Event().wait()

    monkeypatch.setattr(reports, "_SAY_S", 0.01)
    monkeypatch.setattr(sender, "_send", send)
    monkeypatch.setattr(sender, "Settings", lambda: SimpleNamespace(log_level="INFO"))
    monkeypatch.setattr(os, "nice", lambda _: 19)
    ours, theirs = socket.socketpair()
    channel = await Channel.over(ours)
    channel.send(Sends([]))

    async def told(serial):
        said = await channel.receive()
        assert said.serial == serial
        return said.metrics.counts["mainstem_calls"].get(("told", "1", "http"), 0)

    calls = metrics.CALLS.labels("told", "1", "http")
    async with asyncio.timeout(10), running(sender.main(theirs.detach())) as ended:
        channel.send(Ask(1))
        counted = [await told(1)]
        calls.inc(3)
        counted.append(await told(0))
        monkeypatch.setattr(reports, "_SAY_S", 60)
        calls.inc(4)
        channel.finish()
        counted.append(await told(0))
        assert await channel.receive() is None
        await ended
    channel.close()
    assert counted == [0, 3, 7]
