"""Publishing the tree: tiles, then the checkpoint that the log signed and the witness cosigned (ADR 13)."""

import asyncio
import re
from base64 import b64encode
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Final

from mainstem.events.errors import Unavailable
from mainstem.events.frames import frame
from mainstem.events.ledger import CheckpointPublished, ReceiptIssued
from mainstem.events.record import header
from mainstem.ledger.checkpoint import Checkpoint
from mainstem.ledger.entry import entry_of
from mainstem.ledger.keys import Secret, WitnessKey
from mainstem.ledger.note import Note, NoteError, Signature
from mainstem.ledger.receipt import Receipt
from mainstem.ledger.tiles import Edge
from mainstem.ledger.witness import MOST_HASHES, SIZE_TYPE, Refused, Submission
from mainstem.ledger_service.domain import Placed
from mainstem.ledger_service.folder import Folder, Forked
from mainstem.ledger_service.ports import Store

#: An id that a service of ours gave (`mainstem.events.ids`).
_OURS: Final = re.compile(rb"[0-9a-f]{32}")

#: Gives a submission to the witness; returns the cosignatures, or why there are none. Raises Unavailable.
Ask = Callable[[bytes], Awaitable[Sequence[Signature] | Refused]]


class Publisher:
    """Publishes what was committed, again and again.

    Promise: every checkpoint signed extends the one before, its tiles were durable before it, and it was cosigned
    before anybody was told of it. Dying between two steps does no harm: the same bytes are written again.
    """

    def __init__(self, folder: Folder, secret: Secret, witness: WitnessKey, ask: Ask) -> None:
        self._folder = folder
        self._secret = secret
        self._witness = witness
        self._ask = ask
        self._edge: Edge | None = None

    async def publish(self, store: Store) -> Note | None:
        """Publish a checkpoint over all that is stored; None when nothing but checkpoints came since the last one.

        Raises Forked when what is stored does not extend what was signed, or the witness knows of another history;
        Unavailable while witness or database do not answer: then try again.
        """
        edge = self._edge if self._edge is not None else await asyncio.to_thread(self._folder.edge)
        news = await store.unpublished(edge.size)
        if news is None:
            return None
        grown, full = edge.append(news.hashes)
        if grown.frontier() != news.frontier:
            raise Forked(
                f"the signed tree of {edge.size} entries and what is stored behind it make another tree than the one "
                f"stored, of {news.frontier.size}: the database or the folder was set back or changed; bring it back"
            )
        await asyncio.to_thread(self._folder.write_tiles, full + grown.partial())
        checkpoint = Checkpoint(self._secret.name, grown.size, news.frontier.root())
        text = checkpoint.text()
        note = await self._cosigned(Note(text, (self._secret.sign(text),)), edge.size, checkpoint)
        await asyncio.to_thread(self._folder.write_checkpoint, note)
        facts = [told(note, checkpoint), *await asyncio.to_thread(self._receipts, note, checkpoint, news.decided)]
        await store.publish_checkpoint(note, checkpoint, news, facts)
        self._edge = grown
        return note

    async def _cosigned(self, note: Note, old: int, checkpoint: Checkpoint) -> Note:
        """Return the note with the cosignature of the witness."""
        answer = await self._submit(note, old, checkpoint)
        if isinstance(answer, Refused) and answer.status == 409 and answer.content_type.startswith(SIZE_TYPE):
            # It has cosigned more than we know: we died before we heard of it.
            answer = await self._submit(note, _size(answer.body, checkpoint), checkpoint)
        if isinstance(answer, Refused):
            said = f"{answer.status} {answer.body.strip()}"
            raise Forked(f"the witness {self._witness.name} does not cosign the tree of {checkpoint.size}: {said}")
        cosigned = replace(note, signatures=(*note.signatures, *answer))
        try:
            cosigned.signed_by([self._witness])
        except NoteError as fault:
            raise Unavailable(f"what {self._witness.name} answered is no cosignature of its own: {fault}") from fault
        return cosigned

    async def _submit(self, note: Note, old: int, checkpoint: Checkpoint) -> Sequence[Signature] | Refused:
        proof = await asyncio.to_thread(self._folder.tree(checkpoint.size).consistency, old, checkpoint.size)
        return await self._ask(Submission(old, tuple(proof[:MOST_HASHES]), note).render())

    def _receipts(self, note: Note, checkpoint: Checkpoint, decided: Sequence[Placed]) -> list[ReceiptIssued]:
        """Return the receipts of entries; one without an id of ours is nobody's decision."""
        tree = self._folder.tree(checkpoint.size)
        return [
            ReceiptIssued(
                event_id=event_id.decode(),
                leaf=leaf,
                entry=b64encode(entry_of(frame(entry))).decode(),
                receipt=Receipt(leaf, tuple(tree.inclusion(leaf, checkpoint.size)), note).render().decode(),
            )
            for leaf, entry in decided
            if _OURS.fullmatch(event_id := header(entry, "ce_id") or b"")
        ]


def told(note: Note, checkpoint: Checkpoint) -> CheckpointPublished:
    """Return the fact that tells of a checkpoint."""
    rendered = note.render().decode()
    return CheckpointPublished(
        ledger=checkpoint.origin, size=checkpoint.size, root=checkpoint.root.hex(), note=rendered
    )


def _size(body: str, checkpoint: Checkpoint) -> int:
    """Return the size that the witness has; raise Forked when it is none that our tree has passed."""
    size = int(body) if body.strip().isdecimal() else -1
    if not 0 <= size <= checkpoint.size:
        raise Forked(
            f"the witness has cosigned a tree of {body.strip()} entries, and there are {checkpoint.size} here: "
            "the database or the folder was set back; bring the newer one back"
        )
    return size
