"""Asks a target until the time is over or something is found."""

import signal
import time
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from types import FrameType

from tests.fuzz.mutation import Mutator
from tests.fuzz.targets import Target

#: An input that takes more processor time is a hang.
LONGEST_S = 1.0


class Hang(BaseException):
    """An input takes too long; nobody in between may catch this."""


@dataclass
class Figures:
    """What was done, and the first input that leads to what must not be, base64, with the reason."""

    cases: int = 0
    outcomes: int = 0
    slowest_ms: float = 0.0
    found: str | None = None
    why: str | None = None

    def document(self) -> dict[str, object]:
        """Return the figures by name."""
        return asdict(self)


async def fuzz(target: Target, seconds: float, seed: int) -> Figures:
    """Return what was found within so long; the same seed asks the same in the same order."""
    mutator, figures, end = Mutator(target.corpus, target.words, seed), Figures(), time.monotonic() + seconds
    with _alarmed():
        while time.monotonic() < end and figures.found is None:
            given = mutator.next()
            began = time.process_time()
            signal.setitimer(signal.ITIMER_VIRTUAL, LONGEST_S)
            try:
                outcome = await target.check(given, mutator.random)
            except (Exception, Hang) as fault:  # noqa: BLE001  (whatever it is, it is what is looked for)
                figures.found, figures.why = b64encode(given).decode(), repr(fault)
            else:
                mutator.learn(given, outcome)
            signal.setitimer(signal.ITIMER_VIRTUAL, 0)
            figures.cases += 1
            figures.slowest_ms = max(figures.slowest_ms, (time.process_time() - began) * 1e3)
    figures.outcomes = mutator.outcomes
    return figures


@contextmanager
def _alarmed() -> Iterator[None]:
    def ring(_: int, __: FrameType | None) -> None:
        raise Hang(f"it takes more than {LONGEST_S} s")

    before = signal.signal(signal.SIGVTALRM, ring)
    try:
        yield
    finally:
        signal.signal(signal.SIGVTALRM, before)
