"""Serving that records no answer: what the record costs is the difference."""

from typing_extensions import override

from mainstem.bus.spool import Spool
from mainstem.runtime import run
from mainstem.serving import app


class NoSpool(Spool):
    """Keeps nothing."""

    @override
    def append(self, payload: bytes, count: int) -> int:
        return 0


if __name__ == "__main__":
    app.Spool = NoSpool  # type: ignore[attr-defined]
    run(app.main)
