"""When a process that ended is started again: pure, told the time."""

from collections import deque
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Backoff:
    """The pace of restarts; all times in seconds."""

    first: float = 0.2
    limit: float = 10.0
    #: A process that was up this long starts afresh.
    forget_after: float = 30.0
    #: So many ends within the window are a crash loop.
    loop_count: int = 5
    loop_window: float = 60.0


@dataclass(slots=True)
class Restarts:
    """The ends of one process so far."""

    backoff: Backoff
    ends: deque[float] = field(default_factory=deque)
    delay: float = 0.0

    def after_end(self, now: float, up_for: float) -> float | None:
        """Return the seconds to wait before the next start, or None when this is a crash loop."""
        self.ends.append(now)
        while now - self.ends[0] > self.backoff.loop_window:
            self.ends.popleft()
        if len(self.ends) >= self.backoff.loop_count:
            return None
        fresh = up_for >= self.backoff.forget_after or self.delay == 0.0
        self.delay = self.backoff.first if fresh else min(self.delay * 2, self.backoff.limit)
        return self.delay
