"""The models that were approved and promoted, as the doors speak of them."""

from collections.abc import Awaitable, Callable, Mapping, Sequence

from mainstem.events.errors import MainstemError
from mainstem.inference import Answer as Given
from mainstem.inference import Signature
from mainstem.serving import wire
from mainstem.serving.batching import Batcher
from mainstem.serving.board import Board
from mainstem.serving.domain import Indexed, Usage
from mainstem.serving.meters import count_refused
from mainstem.serving.models import Inference
from mainstem.serving.ports import Answer, Question

#: Returns what was done for every version, as `wire.used` has it. Raises NotReady.
Counted = Callable[[], Awaitable[Sequence[Mapping[str, object]]]]


class Managed:
    """A Repository of what a board has in effect: nobody loads or unloads it by hand."""

    def __init__(self, board: Board, counted: Counted, elsewhere: Callable[[], Mapping[str, str]] = dict) -> None:
        """Tell of a board; `elsewhere` says by digest what cannot be loaded where calls are answered, and why."""
        self._board = board
        self._counted = counted
        self._elsewhere = elsewhere

    def fault(self) -> str | None:
        """Tell why not every version in effect can answer, or None."""
        return self._board.fault()

    def ready(self, model: str, version: str | None) -> None:
        """Return when the model answers. Raises Unknown or NotReady."""
        self._board.about(model, version)

    def metadata(self, model: str, version: str | None) -> Mapping[str, object]:
        """Return what the protocol says about a model. Raises Unknown or NotReady."""
        found = self._board.about(model, version)
        return wire.metadata(found, self._board.lookups.get(found.feature_definition))

    def index(self) -> Sequence[Indexed]:
        """Return the versions that answer, or are to."""
        return self._board.index(self._elsewhere())

    async def load(self, model: str) -> None:
        """Return at once: every version in effect is loaded without being asked for. Raises Unknown or NotReady."""
        self._board.about(model, None)

    async def unload(self, model: str) -> None:
        """Refuse: what answers is decided elsewhere. Raises Unsupported, Unknown or NotReady."""
        raise wire.unloading(self._board.about(model, None))

    async def statistics(self, model: str | None, version: str | None) -> Sequence[Mapping[str, object]]:
        """Return what was done for a model, or for all. Raises Unknown or NotReady."""
        asked = {(live.model, str(live.version)) for live in self._board.chosen(model, version)}
        used = {(each["name"], each["version"]): each for each in await self._counted()}
        return [used.get(name) or wire.used(Usage(*name)) for name in sorted(asked)]


class Answering(Managed):
    """The Models of a worker: calls of any form become rows, and those one batch of a turn."""

    def __init__(self, board: Board, counted: Counted, batcher: Batcher) -> None:
        super().__init__(board, counted)
        self._batcher = batcher

    def signature(self, model: str, version: str | None) -> Signature:
        """Return what a model takes and gives. Raises Unknown or NotReady."""
        return wire.signature(len(self._board.about(model, version).features))

    def infer(self, inference: Inference, done: Callable[[Given | MainstemError], None]) -> None:
        """Answer in this turn of the loop."""
        asked, request = inference, inference.request
        try:
            rows, columns, wanted = wire.rows(request, self.signature(asked.model, asked.version))
            entity = wire.entity_of(request.parameters)
        except MainstemError as fault:
            self._batcher.refuse(asked.model, asked.version)
            count_refused(asked.channel, fault)
            return done(fault)

        def give(found: Answer | MainstemError) -> None:
            done(found if isinstance(found, MainstemError) else wire.given(found, wanted))

        who = asked.model, asked.version, asked.id, asked.channel
        return self._batcher.put(Question(*who, rows, entity, asked.traceparent, columns, asked.until), give)
