"""The start is made of steps: what answers is there before anything else is loaded; see ADR 19."""

import asyncio
import importlib
import os
import signal
import socket
import subprocess
import sys

import pytest

from mainstem.bus.spool import Spool
from mainstem.cli.local.ports import anywhere
from mainstem.serving.crew import vacant
from mainstem.testkit.waiting import until

#: What takes long to load, and is for the stream, the pages and the log.
HEAVY = {
    *("aiokafka", "asyncpg", "faststream", "numpy", "onnxruntime", "opentelemetry", "starlette", "uvicorn"),
    "mainstem.events.catalogue",
}
#: What a worker answers without.
NEEDLESS = {
    *("aiokafka", "asyncpg", "faststream", "grpc", "numba", "opentelemetry", "psutil", "pydantic", "starlette"),
    "mainstem.events.catalogue",
}
AWAY = {"MAINSTEM_KAFKA": "127.0.0.1:1", "MAINSTEM_DATABASE_URL": "postgresql://nobody@127.0.0.1:1/none"}
#: Ends the service where it would start the first process, and tells which modules it has loaded.
SERVICE = """
import sys
from mainstem.runtime import run
from mainstem.serving import app, child

async def live(self, first):
    print(self.name, *sys.modules, flush=True)
    raise SystemExit

child.Child.live = live
run(app.main)
"""
WORKER = "import sys, mainstem.serving.worker; print(*sys.modules)"


def told(program, **env):
    """Return what a process of its own prints, word by word."""
    done = subprocess.run(
        [sys.executable, "-c", program], env={**os.environ, **env}, capture_output=True, text=True, check=False
    )
    return done.stdout.split()


def test_the_service_loads_little_before_it_starts_a_worker(tmp_path):
    ports = {"MAINSTEM_HTTP_PORT": "0", "MAINSTEM_GRPC_PORT": "0"}
    name, number, *loaded = told(SERVICE, **AWAY, **ports, MAINSTEM_ARTIFACTS=str(tmp_path / "artifacts"))
    assert (name, number) == ("worker", "0")
    assert HEAVY.isdisjoint(loaded)


def test_a_worker_loads_nothing_that_it_answers_without():
    loaded = told(WORKER)
    assert "onnxruntime" in loaded
    assert NEEDLESS.isdisjoint(loaded)


def test_the_service_starts_its_workers_also_where_the_spool_of_one_is_broken(tmp_path):
    env = {"MAINSTEM_HTTP_PORT": "0", "MAINSTEM_GRPC_PORT": "0", "MAINSTEM_SPOOL": str(tmp_path), **AWAY}
    Spool(tmp_path / "serving" / "0", 1 << 20).close()
    (tmp_path / "serving" / "0" / "incarnation").write_text("")
    told_env = {"MAINSTEM_ARTIFACTS": str(tmp_path / "artifacts"), "MAINSTEM_INSTANCE": "serving"}
    assert told(SERVICE, **env, **told_env)[:2] == ["worker", "0"]
    assert (tmp_path / "serving" / "0.broken-1" / "incarnation").read_text() == ""


@pytest.mark.fault
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_service_that_is_told_to_end_while_it_waits_for_what_it_stands_on_ends_well(tmp_path, number):
    ports = anywhere({"http": 0, "grpc": 0})
    env = {"MAINSTEM_ARTIFACTS": str(tmp_path / "artifacts"), **AWAY}
    env |= {f"MAINSTEM_{name.upper()}_PORT": str(port) for name, port in ports.items()}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "mainstem.serving.app"), env={**os.environ, **env}
    )
    await until(lambda: listens(ports["http"]))
    process.send_signal(number)
    async with asyncio.timeout(20):
        assert await process.wait() == 0
    await vacant("127.0.0.1", *ports.values())


def listens(port):
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


@pytest.mark.parametrize("name", ["feature_engine", "inference", "runtime", "storage"])
def test_what_a_library_loads_late_is_there_for_who_asks(name):
    library = importlib.import_module(f"mainstem.{name}")
    assert set(library._LATE) <= set(library.__all__)
    assert all(getattr(library, each) is not None for each in library.__all__)
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = library.nothing
