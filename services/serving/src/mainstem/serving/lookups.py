"""What a worker looks up: one fold for each feature set that a model of it reads, started when it is wanted."""

import asyncio
from collections.abc import Iterable, Iterator, Mapping
from importlib import import_module
from pathlib import Path

from mainstem.inference.errors import NotReady, Unsupported
from mainstem.serving.domain import Activation, Followed
from mainstem.serving.entities import Lookup
from mainstem.telemetry import logger

#: It brings the engine, which takes more memory than all else of a worker: it is loaded when it is wanted.
_FOLLOWING = "mainstem.serving.following"

_log = logger(__name__)


class Lookups:
    """Starts, keeps and ends them."""

    def __init__(self, kafka: str, folder: Path) -> None:
        self._kafka = kafka
        self._folder = folder
        self._running: dict[str, asyncio.Task[None]] = {}
        self._ready: dict[str, Lookup] = {}

    def want(self, followed: Mapping[str, Followed]) -> None:
        """Follow these from now on, by the identity of the set, and no others; what has failed is begun again."""
        failed = {definition for definition, task in self._running.items() if task.done() and task.exception()}
        for definition in (self._running.keys() - followed.keys()) | failed:
            self._running.pop(definition).cancel()
            self._ready.pop(definition, None)
        for definition in followed.keys() - self._running.keys():
            task = asyncio.create_task(self._follow(definition, followed[definition]), name=definition)
            task.add_done_callback(_tell)
            self._running[definition] = task

    async def stop(self) -> None:
        """End all."""
        tasks = list(self._running.values())
        self.want({})
        await asyncio.gather(*tasks, return_exceptions=True)

    def of(self, activation: Activation) -> Lookup:
        """Return what looks up the features of a version. Raises Unsupported, or NotReady while it is started."""
        task = self._running.get(activation.feature_definition)
        if task is None:
            raise Unsupported(
                f"model {activation.model!r} is not called by entity: its project has no [lookup] in serving.toml; "
                "send the tensor 'features'"
            )
        if task.done() and (fault := task.exception()) is not None:
            raise NotReady(f"the features of {activation.feature_set} are not looked up any more: {fault!r}")
        found = self._ready.get(activation.feature_definition)
        if found is None:
            raise NotReady(f"what looks up the features of {activation.feature_set} is being started; try again")
        return found

    def ages(self, live: Iterable[Activation]) -> Iterator[tuple[str, str, float | None]]:
        """Yield model, source and the age of its newest record (s), None before the first, of what is looked up."""
        for activation in live:
            found = self._ready.get(activation.feature_definition)
            for source, age in () if found is None else found.ages().items():
                yield activation.model, source, age

    def away(self, live: Iterable[Activation]) -> Iterator[tuple[str, bool]]:
        """Yield each model that may be called by entity, and whether such calls are refused now."""
        for activation in live:
            if activation.feature_definition not in self._running:
                continue
            try:
                self.of(activation).as_of()
            except NotReady:
                yield activation.model, True
            else:
                yield activation.model, False

    async def _follow(self, definition: str, followed: Followed) -> None:
        file = self._folder / f"{definition.removeprefix('sha256:')[:16]}.fold"
        module = await asyncio.to_thread(import_module, _FOLLOWING)
        following = await asyncio.to_thread(module.Following, followed, file)
        self._ready[definition] = following.lookup
        await following.run(self._kafka)


def _tell(task: asyncio.Task[None]) -> None:
    """Log why a set is not followed any more; calls are refused from then on."""
    if not task.cancelled() and (fault := task.exception()) is not None:
        _log.critical("%s is not followed any more", task.get_name(), exc_info=fault, extra={"action": "not_followed"})
