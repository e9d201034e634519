"""For how long a turn of the loop takes calls: as a queue whose length is bounded in time."""

from typing import Final

#: Shares of the deadline. What is read in a turn may have lain in the socket for as long as the turn before, and
#: refusals take time, too: so two fifths at most, which is what a burst gets.
_BURST: Final = 0.4
#: After a turn that had to refuse: a queue that does not empty makes everybody wait and answers nobody more, so it is
#: kept short (as Facebook's does, after CoDel: B. Maurer, Fail at Scale, ACM Queue 13(8), 2015).
_CROWD: Final = 0.1


class Allowance:
    """Says which calls a turn has time for; turns are told from each other by when they began."""

    def __init__(self, deadline_s: float) -> None:
        self._burst_s, self._crowd_s = _BURST * deadline_s, _CROWD * deadline_s
        self._most_s = self._burst_s
        self._turn = 0.0
        self._full = False

    def has_time(self, turn: float, now: float) -> bool:
        """Return whether a call that was read in the turn that began then may still be begun; times in s."""
        if turn != self._turn:
            self._most_s = self._crowd_s if self._full else self._burst_s
            self._turn, self._full = turn, False
        if now - turn <= self._most_s:
            return True
        self._full = True
        return False
