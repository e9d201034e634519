"""What takes from a process all that it does not need to read a model that lies before it: Linux alone has that.

A filter of system calls (seccomp) leaves it memory, clocks, and the files that are open: it can open no file, make no
socket and no process, and cannot take the filter off again.
"""

import ctypes
import os
import platform
import resource
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from struct import Struct
from typing import Final

from mainstem.intake.limits import LONGEST_VERDICT, Limits

_PR_SET_NO_NEW_PRIVS: Final = 38
_SECCOMP_SET_MODE_FILTER, _ALL_THREADS = 1, 1
_LOAD, _JUMP_IF_EQUAL, _RETURN = 0x20, 0x15, 0x06
_ALLOW, _DENY, _KILL = 0x7FFF0000, 0x00050001, 0x80000000  # denied calls fail with EPERM
_NUMBER_AT, _ARCHITECTURE_AT = 0, 4
_INSTRUCTION: Final = Struct("=HBBI")

#: By machine: its name for the kernel, the call that sets the filter, and the calls that are left.
#: read write close fstat lseek mmap mprotect munmap brk sigaction sigprocmask sigreturn pread yield mremap madvise
#: nanosleep getpid exit gettimeofday getrusage sigaltstack gettid futex getaffinity clock_gettime clock_nanosleep
#: exit_group getrandom restart set_robust_list getcpu rseq
_MACHINES: Final[dict[str, tuple[int, int, Sequence[int]]]] = {
    "x86_64": (0xC000003E, 317, (
        0, 1, 3, 5, 8, 9, 10, 11, 12, 13, 14, 15, 17, 24, 25, 28, 35, 39, 60, 96, 98, 131, 186, 202, 204, 228, 230,
        231, 318, 219, 273, 309, 334,
    )),
    "aarch64": (0xC00000B7, 277, (
        63, 64, 57, 80, 62, 222, 226, 215, 214, 134, 135, 139, 67, 124, 216, 233, 101, 172, 93, 169, 165, 132, 178,
        98, 123, 113, 115, 94, 278, 128, 99, 168, 293,
    )),
}  # fmt: skip


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))


def confine(limits: Limits) -> None:
    """Give up all but memory, time and the open files, as far as the limits go beyond what is used by now.

    Raises OSError when the machine has no such filter: nothing is to be examined then.
    """
    page_bytes, pages = resource.getpagesize(), int(Path("/proc/self/statm").read_text().split()[0])
    memory = pages * page_bytes + limits.memory
    for what, most in (
        (resource.RLIMIT_AS, memory),
        (resource.RLIMIT_FSIZE, LONGEST_VERDICT),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NPROC, 0),
        (resource.RLIMIT_NOFILE, 3),
    ):
        resource.setrlimit(what, (most, most))
    signal.setitimer(signal.ITIMER_PROF, limits.seconds)  # its signal ends the process
    _filter_calls()


def _filter_calls() -> None:
    machine = platform.machine()
    if sys.platform != "linux" or machine not in _MACHINES:
        raise OSError(f"{sys.platform} on {machine} has no filter of system calls; use Linux on x86-64 or arm64")
    architecture, set_filter, allowed = _MACHINES[machine]
    program = _program(architecture, allowed)
    libc = ctypes.CDLL(None, use_errno=True)
    given = _Program(len(program) // _INSTRUCTION.size, program)
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) or libc.syscall(
        set_filter, _SECCOMP_SET_MODE_FILTER, _ALL_THREADS, ctypes.byref(given)
    ):
        code = ctypes.get_errno()
        raise OSError(code, f"the kernel sets no filter of system calls: {os.strerror(code)}")


def _program(architecture: int, allowed: Sequence[int]) -> bytes:
    """Return the filter: another architecture's call ends the process, one that is not listed fails."""
    listed = [_INSTRUCTION.pack(_JUMP_IF_EQUAL, len(allowed) - at, 0, call) for at, call in enumerate(allowed)]
    return b"".join(
        [
            _INSTRUCTION.pack(_LOAD, 0, 0, _ARCHITECTURE_AT),
            _INSTRUCTION.pack(_JUMP_IF_EQUAL, 1, 0, architecture),
            _INSTRUCTION.pack(_RETURN, 0, 0, _KILL),
            _INSTRUCTION.pack(_LOAD, 0, 0, _NUMBER_AT),
            *listed,
            _INSTRUCTION.pack(_RETURN, 0, 0, _DENY),
            _INSTRUCTION.pack(_RETURN, 0, 0, _ALLOW),
        ]
    )
