"""The start is made of steps: what answers is there before anything else is loaded; see ADR 19."""

import importlib
import os
import subprocess
import sys

import pytest

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
    env = {"MAINSTEM_KAFKA": "nowhere:1", "MAINSTEM_DATABASE_URL": "postgresql://nowhere"}
    ports = {"MAINSTEM_HTTP_PORT": "0", "MAINSTEM_GRPC_PORT": "0"}
    name, number, *loaded = told(SERVICE, **env, **ports, MAINSTEM_ARTIFACTS=str(tmp_path / "artifacts"))
    assert (name, number) == ("worker", "0")
    assert HEAVY.isdisjoint(loaded)


def test_a_worker_loads_nothing_that_it_answers_without():
    loaded = told(WORKER)
    assert "onnxruntime" in loaded
    assert NEEDLESS.isdisjoint(loaded)


@pytest.mark.parametrize("name", ["feature_engine", "inference", "runtime", "storage"])
def test_what_a_library_loads_late_is_there_for_who_asks(name):
    library = importlib.import_module(f"mainstem.{name}")
    assert set(library._LATE) <= set(library.__all__)
    assert all(getattr(library, each) is not None for each in library.__all__)
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = library.nothing
