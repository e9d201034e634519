"""Bytes from strangers: a minute of them on each way in, side by side; and a control that a fault would be found."""

import json
import os
import subprocess
import sys
from base64 import b64decode
from collections.abc import Callable, Iterator, Sequence
from math import prod
from pathlib import Path
from random import Random

import pytest
from tests.fuzz.fuzzing import fuzz
from tests.fuzz.targets import TARGETS, Target

from mainstem.direct.request import Request
from mainstem.inference import fields, messages, rest

ROOT = Path(__file__).parents[2]
SECONDS = float(os.environ.get("FUZZ_SECONDS", "60"))
SEED = int(os.environ.get("FUZZ_SEED", "1"))
#: A planted fault is found long before.
CONTROL_S = 60.0


@pytest.fixture(scope="module")
def running() -> Iterator[dict[str, subprocess.Popen[str]]]:
    """Start a fuzzer for each target."""
    started = {
        name: subprocess.Popen(
            [sys.executable, "-m", "tests.fuzz", name, str(SECONDS), str(SEED)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for name in TARGETS
    }
    yield started
    for process in started.values():
        process.kill()
        process.communicate()


@pytest.mark.parametrize("name", sorted(TARGETS))
def test_no_bytes_of_a_stranger_break_it(
    running: dict[str, subprocess.Popen[str]], capsys: pytest.CaptureFixture[str], name: str
) -> None:
    out, err = running[name].communicate(timeout=SECONDS + 120)
    assert running[name].returncode == 0, f"the process is gone: {err[-2_000:]}"
    figures = json.loads(out)
    with capsys.disabled():
        print(f"\nfuzz {name}: {figures['cases']:,} inputs, slowest {figures['slowest_ms']:.0f} ms")
    assert (figures["found"], figures["why"]) == (None, None)
    assert figures["outcomes"] > 5


def unchecked(_: str, __: str, shape: Sequence[int]) -> int:
    """Count the cells of any shape."""
    return prod(shape)


def unbounded(patch: pytest.MonkeyPatch) -> None:
    """Take every shape of the common form, and forget by the end which were taken."""
    patch.setattr(fields, "_forms", {})
    patch.setattr(fields, "cells", unchecked)


PLANTED: dict[str, Callable[[pytest.MonkeyPatch], None]] = {
    "http": lambda patch: patch.setattr(Request, "has_head", lambda *_: True),
    "json": lambda patch: patch.setattr(rest, "cells", unchecked),
    "binary": lambda patch: patch.setattr(rest, "_split_at", lambda body, said: int(said) if said else len(body)),
    "grpc": lambda patch: patch.setattr(messages, "cells", unchecked),
    "frames": unbounded,
}


@pytest.mark.parametrize("name", sorted(TARGETS))
async def test_a_planted_fault_is_found(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    assert (await fuzz(TARGETS[name](), 0.2, SEED)).found is None
    PLANTED[name](monkeypatch)
    assert (await fuzz(TARGETS[name](), CONTROL_S, SEED)).found is not None


async def test_a_hang_is_found() -> None:
    async def check(given: bytes, _: Random) -> str:
        while b"!!" in given:
            pass
        return ""

    figures = await fuzz(Target(check, [b"a!b"], [b"!"]), CONTROL_S, SEED)
    assert "takes more than" in (figures.why or "")
    assert b"!!" in b64decode(figures.found or "")
