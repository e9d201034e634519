"""What a reader finds below the folder of a log, whatever happened to the one who writes it."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

from tests.fault.publishing import HASHES, SIZES, TREE, Said, publish
from tlog_scales.backend import LocalBackend
from tlog_scales.reader import TilesReader

from mainstem.ledger import HASH_BYTES
from mainstem.ledger.checkpoint import Checkpoint
from mainstem.ledger.note import Note
from mainstem.ledger.tiles import Edge, Tile
from mainstem.ledger_service.folder import Folder
from mainstem.testkit.cosigner import LOG, WITNESS
from mainstem.witness.memory import Memory


class Lost(Exception):
    """What a reader relied on is not there, or is not what it was."""


def check_all(root: Path, said: Sequence[Said]) -> None:
    """Hold what stands below `root` against what was said until now; raises Lost."""
    found = _published(root / "log")
    _whole_tiles(root / "log")
    remembered = _remembered(root / "witness")
    for each in said:
        if each.root != TREE.root(each.size):
            raise Lost(f"the checkpoint of {each.size} entries that was {each.what} is none of this tree")
        if each.size > remembered:
            raise Lost(f"the witness remembers {remembered} entries, and cosigned {each.size}")
        if each.what == "told" and each.size > found:
            raise Lost(f"{each.size} entries were told of, and {found} are published")
    if found > remembered:
        raise Lost(f"{found} entries are published, and the witness remembers {remembered}")


def go_on(root: Path, said: Sequence[Said]) -> None:
    """Publish what was not told of yet, as the process does that comes after the one that died; raises Lost."""
    later = list(said)
    told = max((each.size for each in said if each.what == "told"), default=0)
    asyncio.run(publish(root, [size for size in SIZES if size > told], later.append))
    check_all(root, later)
    if {each.size for each in later if each.what == "told"} != set(SIZES):
        raise Lost(f"not every size was told of: {later}")


def _published(folder: Path) -> int:
    """Return the size of the checkpoint that a reader finds; its tiles are read by ours and by another program."""
    if not (folder / "checkpoint").exists():
        return 0
    try:
        note = Note.parse((folder / "checkpoint").read_bytes())
        note.signed_by([LOG.log_key])
        note.signed_by([WITNESS.witness_key])
        found = Checkpoint.parse(note.text)
        theirs = TilesReader(LocalBackend(folder))
        theirs.set_size(found.size)
        roots = {
            "signed": found.root,
            "of the entries": TREE.root(found.size),
            "of the tiles": Folder(folder, LOG.log_key).tree(found.size).root(),
            "another program's": theirs.calculate_root_hash(),
        }
    except (ValueError, OSError) as fault:
        raise Lost(f"what is published cannot be read: {fault}") from fault
    if len(set(roots.values())) > 1:
        raise Lost(f"the roots at {found.size} entries differ: {roots}")
    return found.size


def _whole_tiles(folder: Path) -> None:
    """Whatever stands under the name of a tile is that tile, also before a checkpoint covers it."""
    for file in sorted((folder / "tile").rglob("*")):
        if file.is_file() and not file.name.startswith("."):
            path = file.relative_to(folder).as_posix()
            if file.read_bytes() != _TILES.get(path):
                raise Lost(f"{path} is torn: {file.stat().st_size} bytes of its own")


def _remembered(folder: Path) -> int:
    """Return the size that the witness remembers; a memory that cannot be read is lost."""
    if not folder.exists():
        return 0
    try:
        with Memory(folder, WITNESS.witness_key).held() as memory:
            latest = memory.latest.get(LOG.name)
    except Exception as fault:
        raise Lost(f"the witness cannot read what it cosigned: {fault}") from fault
    return latest.size if latest else 0


def _tiles() -> dict[str, bytes]:
    """Return every tile that the log has at any of its sizes, by its path."""
    edge, found = Edge(), dict[Tile, bytes]()
    for size in SIZES:
        edge, full = edge.append(HASHES[edge.size * HASH_BYTES : size * HASH_BYTES])
        found.update([*full, *edge.partial()])
    return {tile.path: data for tile, data in found.items()}


_TILES = _tiles()
