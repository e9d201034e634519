"""What the connections of a listening socket have in common."""

from typing import Final, Generic

from mainstem.direct.call import Head, Route
from mainstem.direct.limits import Limits
from mainstem.direct.listener import Each, Turns
from mainstem.direct.upstream import Upstream

#: So many heads are known.
_MOST_HEADS: Final = 1_000
_LIMITS: Final = Limits()


class Shared(Turns, Generic[Each]):
    """What the connections of a listening socket have in common."""

    def __init__(self, route: Route, upstream: Upstream, limits: Limits = _LIMITS) -> None:
        self.route, self.upstream, self.limits = route, upstream, limits
        self.connections: set[Each] = set()
        #: What heads said that were parsed before, by their bytes: a client sends the same one again and again.
        self.heads: dict[bytes, Head] = {}
        #: Bytes of requests that have begun and are not whole.
        self.held = 0

    def remember(self, head: bytes, said: Head) -> None:
        """Know a head when it comes again."""
        if len(self.heads) >= _MOST_HEADS:
            self.heads.clear()
        self.heads[head] = said
