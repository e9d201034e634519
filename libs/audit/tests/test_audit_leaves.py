"""An entry counts where the tree has it, and a tile where the root does."""

from pathlib import Path

import pytest
from libs.audit.tests.written_logs import Written, cosigned

from mainstem.audit.copying import Choice, Copy
from mainstem.audit.leaves import Leaves
from mainstem.audit.log import Log
from mainstem.events.frames import Damaged, Entry, frame
from mainstem.ledger import Frontier, leaf_hashes

FRAMES = [frame(Entry("src.gauge", 0, offset, 0, None, None, ())) for offset in range(70_000)]
HASHES = leaf_hashes(FRAMES)


def copied(folder: Path, size: int) -> Log:
    tree = Frontier().append(HASHES[: 32 * size])
    copy = Copy(folder / "copy", cosigned(tree.size, tree.root()), Choice(range(size)))
    copy.take("src.gauge", FRAMES[:size], HASHES[: 32 * size])
    copy.finish()
    return Log(folder / "copy")


@pytest.mark.parametrize("size", [1, 255, 256, 257, 1_000, 65_536, 70_000])
def test_every_entry_of_a_copy_stands_at_its_leaf_and_at_no_other(tmp_path: Path, size: int) -> None:
    leaves = Leaves(copied(tmp_path, size))
    for leaf in {0, size // 3, size // 256 * 256 - 1, size - 1} - {-1}:
        leaves.check(leaf, FRAMES[leaf])
        with pytest.raises(Damaged, match=f"leaf {leaf} is not as it was archived; run `mainstem audit verify"):
            leaves.check(leaf, FRAMES[leaf - 1])


@pytest.mark.parametrize("path", ["tile/0/000", "tile/0/273.p/112", "tile/1/000", "tile/1/001.p/17", "tile/2/000.p/1"])
def test_a_tile_that_was_changed_or_lost_proves_nothing(tmp_path: Path, path: str) -> None:
    log = copied(tmp_path, 70_000)
    leaf = 69_999 if path == "tile/0/273.p/112" else 3
    whole = (log.folder / path).read_bytes()
    for data in (bytes([whole[0] ^ 1]) + whole[1:], whole[:-1], whole + b"x"):
        (log.folder / path).write_bytes(data)
        with pytest.raises(Damaged, match=r"root of the checkpoint|cannot be read"):
            Leaves(log).check(leaf, FRAMES[leaf])
    (log.folder / path).unlink()
    with pytest.raises(Damaged, match="cannot be read"):
        Leaves(log).check(leaf, FRAMES[leaf])


def test_what_lies_behind_the_end_is_no_leaf(folder: Path, written: Written) -> None:
    with pytest.raises(Damaged, match=r"leaf 1000 is not as it was archived"):
        Leaves(Log(folder)).check(1_000, written.frames[0])
