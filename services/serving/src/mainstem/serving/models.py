"""What the doors ask of the models behind them, whatever these take and give; see ADR 19."""

from collections.abc import Callable, Mapping, Sequence
from math import inf
from typing import Protocol

import msgspec

from mainstem.events.errors import MainstemError
from mainstem.inference import Answer, Request, Signature
from mainstem.serving.domain import Indexed
from mainstem.serving.ports import Channel


class Inference(msgspec.Struct, frozen=True):
    """A call of any form to a model, as a door read it; `id` is the request's own, or else a new one."""

    model: str
    version: str | None
    id: str
    channel: Channel
    request: Request
    traceparent: bytes | None = None
    #: When an answer comes too late (s, monotonic).
    until: float = inf


class Repository(Protocol):
    """The models of a server, as the protocol tells of them.

    What names a model raises Unknown for one that there is not, in this version; without a version the one is meant
    that answers.
    """

    def fault(self) -> str | None:
        """Tell why not every model that is to answer can, or None."""

    def ready(self, model: str, version: str | None) -> None:
        """Return when the model answers. Raises NotReady."""

    def metadata(self, model: str, version: str | None) -> Mapping[str, object]:
        """Return what the protocol says about a model. Raises NotReady."""

    def index(self) -> Sequence[Indexed]:
        """Return every version there is."""

    async def load(self, model: str) -> None:
        """Return when the model answers. Raises NotReady."""

    async def unload(self, model: str) -> None:
        """Return when the model answers no more. Raises Unsupported where that is decided elsewhere."""

    async def statistics(self, model: str | None, version: str | None) -> Sequence[Mapping[str, object]]:
        """Return what was done for the versions of a model, or for all, as the protocol says it. Raises NotReady."""


class Models(Repository, Protocol):
    """The same models, and what answers for them."""

    def signature(self, model: str, version: str | None) -> Signature:
        """Return what a model takes and gives. Raises NotReady."""

    def infer(self, inference: Inference, done: Callable[[Answer | MainstemError], None]) -> None:
        """Have `done` called once, now or later: with the answer, or with why there is none. Raises nothing."""
