import asyncio, time, resource
import pytest
from mainstem.bus.kafka import KafkaBus
from mainstem.events.envelope import Message
from mainstem.events.topics import ConcreteTopic

pytestmark = pytest.mark.real


async def until(cond, s=10):
    t = time.monotonic()
    while not cond():
        assert time.monotonic() - t < s, "timeout"
        await asyncio.sleep(0.01)
    return time.monotonic() - t


async def test_smoke(kafka):
    cfg = {"message.timestamp.type": "LogAppendTime"}
    async with KafkaBus(kafka, "smoke") as bus:
        await bus.create([ConcreteTopic("s.a", 2, cfg), ConcreteTopic("s.b", 2, cfg)])
        value = b"x" * 400
        hdr = tuple((f"ce_h{i}", b"v" * 24) for i in range(12))
        msgs = [Message("s.a", b"k%d" % i, value + b"%d" % i, hdr, i % 2) for i in range(20000)]
        c = time.process_time()
        t = time.monotonic()
        for i in range(0, 20000, 2000):
            await bus.publisher.publish(msgs[i : i + 2000])
        print("publish us/msg cpu", (time.process_time() - c) / 20000 * 1e6, "wall", time.monotonic() - t)
        got = []

        async def pos():
            return {}

        async def on(records):
            got.extend(records)

        sub = bus.subscribe("g", ["s.a"], pos)
        c = time.process_time()
        t = time.monotonic()
        task = asyncio.create_task(sub.run(on))
        await until(lambda: len(got) >= 20000, 30)
        print("consume us/msg cpu", (time.process_time() - c) / 20000 * 1e6, "wall", time.monotonic() - t)
        for p in (0, 1):
            o = [r.offset for r in got if r.partition == p]
            assert o == list(range(10000))
        assert got[0].timestamp > 0
        print("lag", sub.lag())
        t = time.monotonic()
        task.cancel()
        try:
            await task
        except asyncio.CancelledError:
            pass
        print("cancel took", time.monotonic() - t)
        got2 = []

        async def on2(records):
            got2.extend(records)

        async def pos2():
            return {("s.a", 0): 10000, ("s.a", 1): 10000}

        sub2 = bus.subscribe("g", ["s.a", "s.b"], pos2)
        t = time.monotonic()
        task = asyncio.create_task(sub2.run(on2))
        await bus.publisher.publish([Message("s.b", b"k", b"v", (), 0)])
        await until(lambda: got2, 6)
        print("second subscription received after", time.monotonic() - t, [(r.topic, r.offset) for r in got2])
        t = time.monotonic()
        await bus.publisher.publish([Message("s.b", b"k", b"v", (), 1)])
        await until(lambda: len(got2) > 1)
        print("latency", time.monotonic() - t)
        t = time.monotonic()
        task.cancel()
        try:
            await task
        except asyncio.CancelledError:
            pass
        print("cancel took", time.monotonic() - t)
        t = time.monotonic()
    print("stop took", time.monotonic() - t)


import logging

logging.basicConfig(level=logging.INFO)
