"""HTTP/1.1 for the few paths that must be fast: from the socket to a handler without a task, a scope or a future.

What is no such path is carried to another server, whole, and the connection is closed behind its answer: the next one
begins here again.
"""

from typing_extensions import override

from mainstem.direct.connection import Connection
from mainstem.direct.listener import Listener
from mainstem.direct.shared import Shared


class Door(Shared[Connection], Listener[Connection]):
    """HTTP/1.1 on one listening socket."""

    @override
    def __call__(self) -> Connection:
        return Connection(self)

    @property
    @override
    def busy(self) -> bool:
        return super().busy or self.upstream.busy
