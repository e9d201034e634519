"""Tiles: the same tree as in memory, and the one that another program reads."""

from pathlib import Path

import pytest
from tlog_scales import reader
from tlog_scales.backend import LocalBackend

from mainstem.ledger import HASH_BYTES, Frontier, Tree, leaf_hash, leaf_hashes, verify_consistency, verify_inclusion
from mainstem.ledger.tiles import Edge, Tile, TileTree, bundle, pack_entries, unpack_entries

ENTRIES = [b"entry %d" % number for number in range(70_000)]
LEAVES = leaf_hashes(ENTRIES)
TREE = Tree(LEAVES)


def written(*sizes: int) -> dict[str, bytes]:
    """Return the files of a log that grew to these sizes, one after the other."""
    edge, files = Edge(), dict[str, bytes]()
    for size in sizes:
        edge, full = edge.append(LEAVES[edge.size * HASH_BYTES : size * HASH_BYTES])
        files |= {tile.path: data for tile, data in full + edge.partial()}
    return files


def test_the_example_of_the_specification_has_its_tiles():
    files = written(70_000)
    assert len(files) == 273 + 1 + 1 + 1 + 1
    assert {path for path in files if ".p/" in path} == {"tile/0/273.p/112", "tile/1/001.p/17", "tile/2/000.p/1"}
    assert set(written(256)) == {"tile/0/000", "tile/1/000.p/1"}
    assert (Tile(3, 1_234_067).path, bundle(0, 7).path) == ("tile/3/x001/x234/067", "tile/entries/000.p/7")


def test_tiles_do_not_depend_on_how_the_log_grew():
    sizes = (1, 2, 255, 256, 257, 511, 4_096, 65_535, 65_536, 65_537, 70_000)
    grown, once = written(*sizes), written(70_000)
    assert {path: data for path, data in grown.items() if path in once} == once


@pytest.mark.parametrize("size", [0, 1, 2, 3, 255, 256, 257, 65_535, 65_536, 65_537, 70_000])
def test_the_edge_is_read_from_tiles_and_knows_the_frontier(size: int):
    files = written(size)
    edge = Edge.at(size, lambda tile: files[tile.path])
    assert edge == Edge().append(LEAVES[: size * HASH_BYTES])[0]
    assert edge.frontier() == Frontier().append(LEAVES[: size * HASH_BYTES])
    assert edge.frontier().root() == TREE.root(size)


@pytest.mark.parametrize("size", [1, 2, 3, 255, 256, 257, 65_535, 65_536, 65_537, 70_000])
def test_proofs_from_tiles_are_those_of_the_tree(size: int):
    files = written(size)
    tiles = TileTree(size, lambda tile: files[tile.path])
    assert tiles.root() == TREE.root(size)
    for index in {0, 1, size // 3, size // 2, size - 1} & set(range(size)):
        path = tiles.inclusion(index, size)
        assert path == TREE.inclusion(index, size)
        assert verify_inclusion(tiles.leaf(index), index, size, path, tiles.root())
    for old in {0, 1, size // 3, size - 1, size} & set(range(size + 1)):
        proof = tiles.consistency(old, size)
        assert verify_consistency(old, TREE.root(old), size, tiles.root(), proof)


def test_another_program_reads_tiles_and_bundles(tmp_path: Path):
    files = written(70_000)
    files |= {
        bundle(number, len(part)).path: pack_entries(part)
        for number in range(274)
        if (part := ENTRIES[number * 256 : (number + 1) * 256])
    }
    for path, data in files.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(data)
    theirs = reader.TilesReader(LocalBackend(tmp_path))
    theirs.set_size(70_000)
    assert theirs.calculate_root_hash() == TREE.root()
    for index in range(0, 70_000, 3_999):
        assert leaf_hash(theirs.get_entry(index)) == leaf_hash(ENTRIES[index])
        assert theirs.get_inclusion_proof(index, 70_000).node_hashes == TREE.inclusion(index, 70_000)
        assert theirs.get_consistency_proof(index + 1, 70_000).node_hashes == TREE.consistency(index + 1, 70_000)


def test_a_tile_of_another_length_is_named():
    files = written(300) | {"tile/0/000": b"short"}
    with pytest.raises(ValueError, match="tile/0/000 has 5 bytes, not 8192"):
        TileTree(300, lambda tile: files[tile.path]).leaf(3)


def test_questions_beyond_the_tiles_are_refused():
    tiles = TileTree(3, lambda tile: written(3)[tile.path])
    for ask in (lambda: tiles.root(4), lambda: tiles.inclusion(3, 3), lambda: tiles.consistency(3, 2)):
        with pytest.raises(ValueError, match="entr"):
            ask()
    with pytest.raises(ValueError, match="has no tile 1 of level 0"):
        Tile.within(0, 1, 256)


def test_bundles_are_read_as_they_were_written():
    entries = [b"", b"a", bytes(65_535)]
    assert unpack_entries(pack_entries(entries)) == entries
    with pytest.raises(ValueError, match="an entry of 65536 bytes is too long"):
        pack_entries([bytes(65_536)])
    for damaged in (b"\x00", b"\x00\x02a", pack_entries(entries)[:-1]):
        with pytest.raises(ValueError, match="ends within its entry"):
            unpack_entries(damaged)


@pytest.mark.parametrize("tile", [Tile(0, 273, 112), Tile(3, 1_234_067), bundle(0, 7), bundle(1_000), Tile(63, 0, 1)])
def test_a_tile_is_found_by_its_path(tile: Tile):
    assert Tile.parse(tile.path) == tile


@pytest.mark.parametrize(
    "path",
    ["", "tile/0/1", "tile/64/000", "tile/0/000.p/0", "tile/0/000.p/256", "tile/0/x000/001", "tile/entries/../000",
     "tile/0/000.p/07", "tile/0/001/x002", "tile/-1/000", "tile/0/000 ", "/tile/0/000"],
)  # fmt: skip
def test_what_is_the_path_of_no_tile_is_refused(path: str):
    with pytest.raises(ValueError, match="the path of no tile"):
        Tile.parse(path)
