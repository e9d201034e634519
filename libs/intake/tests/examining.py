"""Puts the files of a folder through the gate and prints what that cost; lean, so that only the sandbox counts.

A child's peak of memory begins with that of who started it: this process holds one file at a time.
"""

import json
import sys
import time
from pathlib import Path
from resource import RUSAGE_CHILDREN, getrusage

from mainstem.intake import Refused, admit


def main(folder: Path) -> None:
    """Print one line of JSON a file: its name, the reason of a refusal, seconds, and bytes at most so far."""
    for file in sorted(folder.iterdir()):
        before, began = getrusage(RUSAGE_CHILDREN), time.monotonic()
        reason = None
        try:
            admit(file.read_bytes())
        except Refused as fault:
            reason = str(fault)
        wall, after = time.monotonic() - began, getrusage(RUSAGE_CHILDREN)
        busy = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        told = {"name": file.name, "reason": reason, "wall_s": wall, "busy_s": busy, "bytes": after.ru_maxrss << 10}
        sys.stdout.write(json.dumps(told) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
