"""A story with all that proves it, in one file that `tools/check_explanation.py` checks without us."""

import json
from base64 import b64encode
from pathlib import Path
from typing import Final

from mainstem.cli.evidence.archive import Archive
from mainstem.cli.evidence.story import Story
from mainstem.events.errors import Rejected

FORMAT: Final = "mainstem.evidence.v1"


async def bundle(archive: Archive, story: Story) -> dict[str, object]:
    """Return the story, the frame of every entry that it names with its audit path, and the checkpoint.

    Raises Rejected when an entry is not covered by a checkpoint yet, or was withheld from a copy, and when not all the
    signatures below the checkpoint were held against their keys: a bundle says whose they are.
    """
    proofs = archive.proofs()
    signers = [each.name for each in proofs.note.signatures]
    if list(proofs.signatures.names) != signers:
        raise Rejected(
            f"a bundle says who signed, and of the signatures of {', '.join(signers)} not all were held against a key: "
            "give --log-key and --witness-key"
        )
    leaves = sorted({link.leaf for link in story.links} | story.leaves)
    frames = await archive.frames(leaves)
    entries = [
        {"leaf": leaf, "frame": _text(frame), "path": [_text(each) for each in proofs.path(leaf)]}
        for leaf, frame in zip(leaves, frames, strict=True)
    ]
    checkpoint = proofs.note.render().decode()
    return {"format": FORMAT, "checkpoint": checkpoint, "explanation": story.document(), "entries": entries}


def save(packed: dict[str, object], file: Path) -> None:
    """Write a bundle; raise Rejected when the file cannot be written."""
    try:
        file.write_text(json.dumps(packed, separators=(",", ":")))
    except OSError as fault:
        raise Rejected(f"the bundle cannot be written to {file}: {fault}; name another file") from fault


def _text(data: bytes) -> str:
    return b64encode(data).decode()
