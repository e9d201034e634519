"""The ledger publishes a log of fixed entries, and a witness cosigns it: small enough to be failed at every call.

All of it is the real thing but the database, whose twin survives whatever happens to the process.
"""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, cast

import httpx
from typing_extensions import override

from mainstem.events.errors import Unavailable
from mainstem.events.fact import Fact
from mainstem.ledger import HASH_BYTES, Frontier, Tree, leaf_hashes
from mainstem.ledger.checkpoint import Checkpoint
from mainstem.ledger.note import Note, Signature
from mainstem.ledger.witness import Refused, Submission
from mainstem.ledger_service.folder import Folder
from mainstem.ledger_service.ports import News, Store
from mainstem.ledger_service.publishing import Publisher
from mainstem.runtime.health import Health
from mainstem.runtime.http import application
from mainstem.testkit.cosigner import LOG, WITNESS
from mainstem.witness.api import Api
from mainstem.witness.memory import Memory

#: How many entries the log has each time it is published: tiles that are partial, that fill up, that are full at once.
SIZES: Final = (1, 256, 300, 512, 700)
HASHES: Final = leaf_hashes([b"entry %d" % number for number in range(SIZES[-1])])
TREE: Final = Tree(HASHES)

_NOW_S: Final = 1_700_000_000


@dataclass(frozen=True, slots=True)
class Said:
    """Something that others heard, and may rely on from then on."""

    #: `cosigned`: the witness answered; `told`: the database has it, and so the events have.
    what: str
    size: int
    root: bytes


Hear = Callable[[Said], None]


class Archive:
    """The store's twin: it has entries up to one size after another, and goes on when that one was published."""

    def __init__(self, sizes: Sequence[int], hear: Hear) -> None:
        self.sizes = list(sizes)
        self._hear = hear

    async def unpublished(self, size: int) -> News | None:
        """Return what is there behind the first `size` entries."""
        if not self.sizes:
            return None
        there = HASHES[: self.sizes[0] * HASH_BYTES]
        return News(there[size * HASH_BYTES :], Frontier().append(there), entries=1)

    async def publish_checkpoint(self, _: Note, checkpoint: Checkpoint, __: News, ___: Sequence[Fact]) -> None:
        """Commit."""
        self._hear(Said("told", checkpoint.size, checkpoint.root))
        self.sizes.pop(0)


class Inline(ThreadPoolExecutor):
    """Runs what others would run in a thread at once, so that calls have one order and one number."""

    @override
    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> "Future[Any]":
        done: Future[Any] = Future()
        try:
            done.set_result(fn(*args, **kwargs))
        except Exception as fault:  # noqa: BLE001  # whoever waits gets it
            done.set_exception(fault)
        return done


async def publish(
    root: Path,
    sizes: Sequence[int],
    hear: Hear,
    *,
    folder: type[Folder] = Folder,
    memory: type[Memory] = Memory,
) -> None:
    """Publish the log below `root` at each of these sizes, from whatever a process before left there."""
    asyncio.get_running_loop().set_default_executor(Inline())
    async with AsyncExitStack() as stack:
        held = stack.enter_context(memory(root / "witness", WITNESS.witness_key).held())
        app = application(Health(), Api(held, WITNESS, {LOG.name: LOG.log_key}, lambda: _NOW_S).routes())
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        client = await stack.enter_async_context(httpx.AsyncClient(transport=transport, base_url="http://witness"))

        async def ask(submission: bytes) -> Sequence[Signature] | Refused:
            answer = await client.post("/add-checkpoint", content=submission)
            if answer.status_code >= 500:
                raise Unavailable(f"the witness answered {answer.status_code}")
            if not answer.is_success:
                return Refused(answer.status_code, answer.text, answer.headers["content-type"])
            asked = Checkpoint.parse(Submission.parse(submission).checkpoint.text)
            hear(Said("cosigned", asked.size, asked.root))
            return [Signature.parse(line) for line in answer.text.splitlines()]

        archive = Archive(sizes, hear)
        publisher = Publisher(folder(root / "log", LOG.log_key), LOG, WITNESS.witness_key, ask)
        while archive.sizes:
            with suppress(Unavailable):
                await publisher.publish(cast(Store, archive))
