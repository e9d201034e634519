"""The gate's own side: bytes into a process that can do nothing, a verdict out of it."""

import json
import os
import signal
import subprocess
import sys
import tempfile
from dataclasses import asdict
from hashlib import sha256
from typing import Any, Final

from mainstem.events.errors import Rejected
from mainstem.intake.limits import LONGEST_VERDICT, PATIENCE_S, Limits
from mainstem.intake.verdict import Admitted

__all__ = ["Limits", "Refused", "admit"]

#: All that the sandbox is told; the runtime would note what it did in a file and send that to its makers.
_ENVIRONMENT: Final = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "ORT_DISABLE_TELEMETRY": "1"}
#: Processor time is up, by the timer and by how the kernel says it.
_TIME_UP: Final = {-signal.SIGPROF, -signal.SIGXCPU}


class Refused(Rejected):
    """The file is not let in; the text says why and is printable ASCII."""


def admit(content: bytes, limits: Limits | None = None) -> Admitted:
    """Return what the model is that the bytes hold; raise Refused with the reason when it may not come in.

    Nothing in the file is read, parsed or run here: that is done in a process of its own, which can open nothing and
    ends when it is over a limit. Blocks for about half a second; a caller with a loop gives it to a thread. The verdict
    is on these bytes, by their digest: whoever keeps it keeps the bytes that have it. A path is not taken, because what
    lies there can be another file when it is read again.
    """
    limits = limits or Limits()
    if not 0 < len(content) <= limits.bytes:
        raise Refused(f"it has {len(content)} bytes; a model has at least one and at most {limits.bytes}")
    code, said = _examined(content, limits)
    if code in _TIME_UP:
        raise Refused(f"examining it takes more than {limits.seconds:g} s of processor time")
    if code < 0:
        name = signal.Signals(-code).name
        raise Refused(f"examining it ended its sandbox with {name}, as too much memory does, or trees of 10,000 levels")
    if code > 0:
        raise Refused(f"its sandbox ended with exit code {code}; run `python -I -m mainstem.intake.child` to see why")
    return _verdict(said, f"sha256:{sha256(content).hexdigest()}")


def _examined(content: bytes, limits: Limits) -> tuple[int, bytes]:
    """Return how the sandbox ended, and what it said; what goes in and out lies in files that have no name."""
    with (
        tempfile.TemporaryDirectory(prefix="intake-") as nothing,
        tempfile.TemporaryFile() as given,
        tempfile.TemporaryFile() as told,
    ):
        given.write(content)
        given.seek(0)
        process = subprocess.Popen(  # noqa: S603  # the interpreter, with a module of ours
            [sys.executable, "-I", "-m", "mainstem.intake.child", json.dumps(asdict(limits))],
            stdin=given,
            stdout=told,
            stderr=subprocess.DEVNULL,
            cwd=nothing,
            env=_ENVIRONMENT,
            start_new_session=True,
        )
        try:
            code = process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            code = -signal.SIGXCPU
        finally:
            if process.returncode is None:
                process.kill()
                process.wait()
        return code, os.pread(told.fileno(), LONGEST_VERDICT, 0)


def _verdict(said: bytes, digest: str) -> Admitted:
    """Return what the sandbox says, or raise Refused: what runs a foreign file is not believed more than it must be."""
    try:
        document: dict[str, Any] = json.loads(said)
        if "refused" in document:
            raise Refused("".join(mark if " " <= mark <= "~" else "?" for mark in str(document["refused"])[:1000]))
        return Admitted.decode(document["admitted"], digest)
    except (ValueError, KeyError, TypeError) as fault:
        raise Refused("its sandbox said nothing that is a verdict") from fault
