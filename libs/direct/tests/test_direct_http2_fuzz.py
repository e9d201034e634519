"""Whatever bytes a client sends: no exception, no hang, nothing that grows. For FUZZ_SECONDS, seeded by FUZZ_SEED."""

import asyncio
import os
import random
import time
from collections.abc import Iterator
from types import SimpleNamespace

import pytest
from libs.direct.tests.test_direct_http2_oracle import HELLO, scripts

from mainstem.direct import UnaryLimits, http2
from mainstem.direct.frames import FRAME_BYTES, HEAD, HEAD_BYTES, Flag, Kind, frame

SECONDS = float(os.environ.get("FUZZ_SECONDS", "2"))
SEED = int(os.environ.get("FUZZ_SEED", "9113"))
LIMITS = UnaryLimits(streams=8, message_bytes=100_000, large_bytes=100_000, idle_frames=50)
#: A script of some kilobytes takes less.
HANG_S = 1.0


def mutated(dice: random.Random, frames: list[bytes]) -> list[bytes]:
    """Return frames with something wrong: in their order, their heads, their bytes."""
    frames = list(frames)
    for _ in range(dice.randint(1, 4)):
        at = dice.randrange(len(frames))
        content = bytearray(frames[at])
        match dice.randrange(6):
            case 0:
                del frames[at : at + dice.randint(1, 2)]
            case 1:
                frames.insert(dice.randint(0, len(frames)), bytes(content))
            case 2 if len(content) >= HEAD_BYTES:
                word, flags, number = HEAD.unpack_from(content)
                kind, number = dice.choice([word & 255, dice.randrange(12)]), dice.choice([number, dice.randrange(9)])
                flags = dice.choice([flags, flags ^ (1 << dice.randrange(8))])
                frames[at] = HEAD.pack(word & ~255 | kind, flags, number) + content[HEAD_BYTES:]
            case 3:
                frames[at] = bytes(content[: dice.randrange(len(content) + 1)])
            case 4:
                frames[at] = frame(Kind(dice.randrange(10)), dice.randrange(64), dice.randrange(6), dice.randbytes(5))
            case _ if content:
                for _ in range(dice.randint(1, 4)):
                    content[dice.randrange(len(content))] = dice.randrange(256)
                frames[at] = bytes(content)
        if not frames:
            break
    return frames


def chunks(dice: random.Random, content: bytes) -> Iterator[bytes]:
    """Cut bytes as a network might."""
    most = dice.choice([1, 7, 100, 1 << 20]) if len(content) < 4_000 else 1 << 20
    at = 0
    while at < len(content):
        size = dice.randint(1, most)
        yield content[at : at + size]
        at += size


async def fuzz(h2c: SimpleNamespace, seconds: float) -> int:
    """Send what is almost right for a while; return how many scripts that were."""
    dice, known, count = random.Random(SEED), [h2c.split_bytes(each) for each in scripts(h2c).values()], 0
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        frames = [*dice.choice(known), *dice.choice(known)]
        peer = h2c.Peer(LIMITS)
        began = time.monotonic()
        for content in chunks(dice, HELLO + frame(Kind.SETTINGS, Flag.ACK, 0) + b"".join(mutated(dice, frames))):
            if peer.wire.closing:
                break
            peer.say(content)
        check(peer)
        assert time.monotonic() - began < HANG_S
        count += 1
        if count % 100 == 0:
            await asyncio.sleep(0)
    return count


def check(peer: SimpleNamespace) -> None:
    """Check that a connection holds no more than it may, that what it says is whole frames, and that it can end."""
    connection, calls = peer.connection, peer.connection._calls
    assert len(calls.open) <= LIMITS.streams
    assert len(connection._rest) <= FRAME_BYTES + HEAD_BYTES
    held = sum(len(call.body) for call in calls.open.values())
    assert held <= LIMITS.streams * 65_535 + LIMITS.large_bytes
    assert all(each.kind in list(Kind) for each in peer.frames())
    for call in peer.waiting:
        call.answer(b"late")
    connection.check(connection.heard + 1_000)
    connection.finish()
    connection.connection_lost(None)


async def test_whatever_a_client_sends_breaks_nothing(h2c: SimpleNamespace) -> None:
    assert await fuzz(h2c, SECONDS) > 50 * SECONDS


async def test_a_fault_that_is_planted_is_found(h2c: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http2, "unpadded", lambda payload: payload[1 : len(payload) - payload[0]])
    with pytest.raises(IndexError):
        await fuzz(h2c, max(SECONDS, 20))
