"""What processes take is added up over all their lives."""

import subprocess
import sys

from projects.flights.demo.usage import Usage

BUSY = "import time\nwhile time.process_time() < 0.3: pass\nprint(flush=True)\ninput()"


def burnt(usage: Usage) -> None:
    """Let a process take 0.3 s, look at it, and kill it."""
    with subprocess.Popen([sys.executable, "-c", BUSY], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        usage.look({"ledger": process.pid})
        process.kill()


def test_a_process_that_was_killed_counts_with_the_one_after_it() -> None:
    usage = Usage()
    burnt(usage)
    burnt(usage)
    assert 0.6 <= usage.cpu_seconds()["ledger"] < 1.2


def test_a_process_that_is_gone_stays_as_it_was_seen_last() -> None:
    usage = Usage()
    burnt(usage)
    before = usage.cpu_seconds()
    usage.look({"ledger": 2**22 - 1})
    assert usage.cpu_seconds() == before
    assert usage.peak_rss_mb["ledger"] > 0
