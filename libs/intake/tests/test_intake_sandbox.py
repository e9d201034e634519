"""The sandbox can reach nothing: the kernel says no, and a watch on all opened files sees none."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from libs.intake.tests.hostile_models import adding, of_files

LOCK = "from mainstem.intake.limits import Limits; from mainstem.intake.sandbox import confine; confine(Limits())"
HEAD = "import os, resource, signal, socket; DENIED = (OSError, MemoryError, ValueError)"
RUN = (
    "import sys, onnxruntime; content = sys.stdin.buffer.read(); options = onnxruntime.SessionOptions();\n"
    "options.intra_op_num_threads = options.inter_op_num_threads = 1\n"
    "options.add_session_config_entry('session.model_external_initializers_file_folder_path', '.'); {lock};\n"
    "try: print(onnxruntime.InferenceSession(content, options).run(None, {{'x': [[0.0] * 4]}})[0].tolist())\n"
    "except Exception as fault: print('refused', str(fault).encode('ascii', 'replace'))"
)
_OPENED = re.compile(r' (?:open|openat|openat2)\([^"]*"([^"]+)".* = \d')
QUIET = {"ORT_DISABLE_TELEMETRY": "1", "OPENBLAS_NUM_THREADS": "1"}

FORBIDDEN = {
    "opening a file": "open('/etc/hostname')",
    "listing a folder": "os.listdir('/')",
    "making a file": "open('mine', 'w')",
    "making a socket": "socket.socket()",
    "making a process": "os.fork()",
    "becoming another program": "os.execv('/bin/true', ['true'])",
    "ending others": "os.kill(os.getppid(), 0)",
    "looking at others": "os.readlink('/proc/self/exe')",
    "taking more memory": "bytearray(1 << 30)",
    "having another limit": "resource.setrlimit(resource.RLIMIT_AS, (-1, -1))",
    "having more time": "signal.setitimer(signal.ITIMER_PROF, 0)",
    "leaving the filter": "confine(Limits())",
}


@pytest.mark.parametrize("deed", FORBIDDEN)
def test_the_sandbox_cannot_do_anything_but_compute(deed: str, tmp_path: Path) -> None:
    program = f"{HEAD}; {LOCK}\ntry: {FORBIDDEN[deed]}\nexcept DENIED: print('refused')"
    ran = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (ran.stdout, ran.returncode) == ("refused\n", 0), ran.stderr


def test_without_the_sandbox_all_of_that_is_done(tmp_path: Path) -> None:
    harmless = [
        FORBIDDEN[deed] for deed in ("opening a file", "listing a folder", "making a socket", "looking at others")
    ]
    program = "import os, socket\n" + "\n".join(harmless)
    assert (
        subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, check=False).returncode == 0
    )


def test_a_model_that_nothing_looked_at_reads_a_file_beside_it_but_in_the_sandbox(tmp_path: Path) -> None:
    """A control: the runtime follows the path of the data when nothing holds it back."""
    of_files(tmp_path)
    content = adding("canary").SerializeToString()
    free, held = (ran(content, tmp_path, lock) for lock in ("0", LOCK))
    assert free.startswith("[[")
    assert held.startswith("refused")


def ran(content: bytes, folder: Path, lock: str) -> str:
    """Return what the runtime makes of a file in a folder, with no check before it."""
    command = [sys.executable, "-c", RUN.format(lock=lock)]
    done = subprocess.run(command, input=content, cwd=folder, capture_output=True, env=QUIET, check=False)
    return done.stdout.decode()


@pytest.mark.skipif(sys.platform != "linux" or not shutil.which("strace"), reason="there is no strace")
def test_no_byte_outside_is_read_for_a_model_that_asks_for_it(tmp_path: Path) -> None:
    """Every file that is opened, by whatever call, is seen; the control sees the canary opened."""
    cases = of_files(tmp_path)
    for content, _ in cases.values():
        assert opened(content, tmp_path, ["-I", "-m", "mainstem.intake.child", "{}"]) == []
        assert opened(content, tmp_path, ["-c", RUN.format(lock=LOCK)]) == []
    control = opened(cases["data outside: relative"][0], tmp_path, ["-c", RUN.format(lock="0")])
    assert {Path(path).name for path in control} == {"canary"}


def opened(content: bytes, folder: Path, command: list[str]) -> list[str]:
    """Return which files of a folder, or the kernel's about the process, were opened once a model was read."""
    log = folder / "calls"
    watched = ["strace", "-f", "-qq", "-e", "trace=%file,read", "-e", "signal=none", "-o", str(log), sys.executable]
    subprocess.run([*watched, *command], input=content, cwd=folder, capture_output=True, env=QUIET, check=False)
    calls = log.read_text(errors="replace").splitlines()
    given = [at for at, call in enumerate(calls) if "read(0, " in call]
    assert given, "it read no model"
    found = [_OPENED.search(call) for call in calls[given[0] :]]
    paths = [call[1] for call in found if call]
    return [path for path in paths if any(mark in path for mark in ("canary", "symbolic", "hard", "environ"))]
