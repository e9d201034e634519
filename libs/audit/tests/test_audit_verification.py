"""A copy of a log holds, whoever looks; and whatever is changed in it is found and named."""

import os
import shutil
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import pytest
from libs.audit.tests.third_party import accepts
from libs.audit.tests.written_logs import KEYS, LONG, SIZE, Written, cosigned, write
from tlog_scales import reader
from tlog_scales.backend import LocalBackend

from mainstem.audit.log import Log, frame_of
from mainstem.audit.verification import Keys, Report, Verification
from mainstem.events.errors import Rejected
from mainstem.ledger import Tree, leaf_hash
from mainstem.ledger.entry import entry_of, stands_for
from mainstem.ledger.keys import Secret
from mainstem.ledger.note import Note
from mainstem.ledger.tiles import Tile, bundle, pack_entries, unpack_entries
from mainstem.testkit.cosigner import LOG, WITNESS

#: As they are handed to whoever verifies.
VKEYS = (LOG.log_key.vkey(), WITNESS.witness_key.vkey())
THIEF = Secret(LOG.name, bytes(32))


def check(folder: Path, since: Note | None = None, keys: Keys = KEYS) -> Report:
    return Verification(Log(folder), keys).run(since)


def test_a_copy_holds_and_its_report_says_what_is_in_it(folder: Path) -> None:
    report = check(folder)
    assert report.faults == []
    assert (report.size, report.entries, report.withheld, report.checkpoints) == (SIZE, SIZE, 0, 10)
    assert report.cosigned == [WITNESS.name]
    assert sum(report.topics.values()) == SIZE
    assert report.unread == []


def test_another_program_accepts_a_copy(folder: Path, written: Written) -> None:
    assert accepts(folder, *VKEYS, signed_over(written, 313).render().decode())
    assert [entry for _, entry in Log(folder).entries()] == [entry_of(data) for data in written.frames]


def test_another_program_accepts_that_every_size_extends_those_before_it(folder: Path, written: Written) -> None:
    log, tree = reader.TilesReader(LocalBackend(folder)), Tree(written.hashes)
    log.get_checkpoint()
    for old in range(1, SIZE, 3):
        size = old + (SIZE - old) // 2
        log.get_consistency_proof(old, size).check(tree.root(old), tree.root(size))


def test_what_is_too_long_for_a_bundle_stands_beside_it(folder: Path, written: Written) -> None:
    log = Log(folder)
    assert stands_for(log.entry(LONG)) is not None
    assert log.frame(log.entry(LONG)) == written.frames[LONG]


def at(leaf: int) -> tuple[Path, int]:
    """Return the bundle of a leaf and its place there."""
    index, place = divmod(leaf, 256)
    return Path(bundle(index, min(256, SIZE - 256 * index)).path), place


def edit(leaf: int, change: Callable[[list[bytes], int], object]) -> Callable[[Path], None]:
    """Return what changes the entries of the bundle of a leaf."""

    def run(folder: Path) -> None:
        path, place = at(leaf)
        entries = unpack_entries((folder / path).read_bytes())
        change(entries, place)
        (folder / path).write_bytes(pack_entries(entries))

    return run


def flip(path: str, byte: int = 0) -> Callable[[Path], None]:
    def run(folder: Path) -> None:
        data = bytearray((folder / path).read_bytes())
        data[byte] ^= 1
        (folder / path).write_bytes(bytes(data))

    return run


def flipped(entries: list[bytes], place: int) -> None:
    entries[place] = entries[place][:-5] + bytes([entries[place][-5] ^ 1]) + entries[place][-4:]


def swapped(entries: list[bytes], place: int) -> None:
    entries[place], entries[place + 1] = entries[place + 1], entries[place]


def rewritten(note: Callable[[Written], Note]) -> Callable[[Path], None]:
    """Return what writes another history from leaf 500 on, hashes and all, under a checkpoint."""

    def run(folder: Path) -> None:
        history = write()
        history.frames[500] = history.frames[500].replace(b"500", b"900")
        _replace(folder, history, note(history))

    return run


def without(leaf: int) -> Callable[[Path], None]:
    """Return what leaves out one entry, hashes and all, under the checkpoint that was signed."""

    def run(folder: Path) -> None:
        history = write()
        del history.topics[leaf], history.frames[leaf]
        _replace(folder, history, Log(folder).note)

    return run


def _gone(file: Path) -> Path:
    file.unlink()
    return file


def _stray(folder: Path, tile: Tile) -> None:
    (folder / tile.path).parent.mkdir(parents=True)
    (folder / tile.path).write_bytes(bytes(8_192))


def _replace(folder: Path, history: Written, note: Note) -> None:
    shutil.rmtree(folder)
    history.copy_to(folder)
    (folder / "checkpoint").write_bytes(note.render())


def checkpoint(change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    def run(folder: Path) -> None:
        file = folder / "checkpoint"
        file.write_bytes(change(file.read_bytes()))

    return run


def resized(size: int) -> Callable[[bytes], bytes]:
    return lambda data: data.replace(b"\n1000\n", b"\n%d\n" % size)


def signed_over(history: Written, size: int = SIZE, log: Secret = LOG, witness: Secret | None = WITNESS) -> Note:
    return cosigned(size, Tree(history.hashes).root(size), log, witness)


def forged_claim(folder: Path) -> None:
    """Have a checkpoint of another key in the history, as if it were the log's, and sign everything anew."""
    history = write(signer=THIEF)
    _replace(folder, history, signed_over(history))


def _other_root(data: bytes) -> bytes:
    origin, size, root, *rest = data.split(b"\n")
    return b"\n".join([origin, size, (b"B" if root[:1] == b"A" else b"A") + root[1:], *rest])


def _other_signature(data: bytes, name: bytes) -> bytes:
    where = data.index(name) + len(name) + 40
    return data[:where] + (b"B" if data[where : where + 1] == b"A" else b"A") + data[where + 1 :]


def _with_another_cosignature(note: Note) -> Note:
    other = signed_over(write(), 900)
    return Note(note.text, (note.signatures[0], other.signatures[1]))


#: What is done to a copy, and what the first fault names.
TAMPERING: dict[str, tuple[Callable[[Path], object], str]] = {
    "a byte of an entry": (edit(700, flipped), "leaf 700 "),
    "a byte of the first entry": (edit(0, flipped), "leaf 0 "),
    "a byte of the last entry": (edit(999, flipped), "leaf 999 "),
    "an entry left out": (edit(300, lambda entries, place: entries.pop(place)), "leaf 511"),
    "the last entry left out": (edit(999, lambda entries, place: entries.pop(place)), "leaf 999"),
    "an entry put in": (edit(300, lambda entries, place: entries.insert(place, b"new")), "tile/entries/001"),
    "an entry there twice": (
        edit(300, lambda entries, place: entries.__setitem__(place + 1, entries[place])),
        "leaf 301 ",
    ),
    "two entries swapped": (edit(300, swapped), "leaf 300 "),
    "an entry emptied": (edit(300, lambda entries, place: entries.__setitem__(place, b"")), "leaf 300"),
    "a bundle cut off within an entry": (
        lambda folder: (folder / at(300)[0]).write_bytes((folder / at(300)[0]).read_bytes()[:-3]),
        "leaves 256 to 511",
    ),
    "a bundle left out": (lambda folder: (folder / at(300)[0]).unlink(), "leaf 256"),
    "two bundles swapped": (
        lambda folder: (
            (folder / "x").write_bytes((folder / at(0)[0]).read_bytes()),
            (folder / at(256)[0]).replace(folder / at(0)[0]),
            (folder / "x").replace(folder / at(256)[0]),
        ),
        "leaf 0 ",
    ),
    "a bundle behind the end": (
        lambda folder: (folder / bundle(4, 1).path).parent.mkdir() or (folder / bundle(4, 1).path).write_bytes(b"\0\0"),
        "tile/entries/004.p/1",
    ),
    "a long entry's frame changed": (flip("{long}", 60_000), f"leaf {LONG}"),
    "a long entry's frame left out": (lambda folder: next((folder / "frame").iterdir()).unlink(), f"leaf {LONG}"),
    "a hash of a leaf": (flip(Tile(0, 2).path, 32 * 50), "leaf 562 "),
    "a tile of leaves cut off": (
        lambda folder: (folder / Tile(0, 2).path).write_bytes((folder / Tile(0, 2).path).read_bytes()[:-32]),
        "tile/0/002",
    ),
    "a tile of leaves left out": (lambda folder: (folder / Tile(0, 2).path).unlink(), "tile/0/002"),
    "a hash above the leaves": (flip(Tile(1, 0, 3).path, 40), "tile/1/000.p/3"),
    "a tile above the leaves left out": (lambda folder: (folder / Tile(1, 0, 3).path).unlink(), "tile/1/000.p/3"),
    "the root of the checkpoint": (checkpoint(_other_root), "checkpoint"),
    "the size of the checkpoint": (checkpoint(resized(999)), "checkpoint"),
    "the origin of the checkpoint": (checkpoint(lambda data: b"example.org" + data[11:]), "checkpoint"),
    "the log's signature": (checkpoint(lambda data: _other_signature(data, b"example.com/log ")), "checkpoint"),
    "the witness's cosignature": (
        checkpoint(lambda data: _other_signature(data, b"example.com/witness ")),
        "checkpoint",
    ),
    "the cosignature left out": (
        checkpoint(lambda data: data[: data.index("— example.com/witness".encode())]),
        "checkpoint",
    ),
    "the cosignature of another checkpoint": (
        lambda folder: (folder / "checkpoint").write_bytes(_with_another_cosignature(Log(folder).note).render()),
        "checkpoint",
    ),
    "an older checkpoint over more entries": (
        lambda folder: (folder / "checkpoint").write_bytes(signed_over(write(), 900).render()),
        "tile/",
    ),
    "a bundle that is a folder": (lambda folder: (_gone(folder / at(300)[0])).mkdir(), "leaves 256 to 511"),
    "a bundle that is a pipe": (lambda folder: os.mkfifo(_gone(folder / at(300)[0])), "leaves 256 to 511"),
    "a bundle that has no end": (
        lambda folder: _gone(folder / at(300)[0]).symlink_to("/dev/zero"),
        "leaves 256 to 511",
    ),
    "a bundle of nothing but empty entries": (
        lambda folder: (folder / at(300)[0]).write_bytes(bytes(9_000_000)),
        "leaves 256 to 511",
    ),
    "a tile of another size": (
        lambda folder: (folder / "tile/0/003.p/100").write_bytes(bytes(3_200)),
        "tile/0/003.p/100",
    ),
    "a part beside its bundle": (
        lambda folder: ((folder / "part").mkdir(), (folder / "part/001").write_bytes(b"\0\0\1x")),
        "part/001",
    ),
    "a frame that no entry names": (lambda folder: (folder / "frame/00").write_bytes(b"x"), "frame/00"),
    "a size beyond all bounds": (checkpoint(resized(2**62)), "size 4611686018427387904"),
    "a size beyond all bounds with its last tile": (
        lambda folder: (checkpoint(resized(2**60))(folder), _stray(folder, Tile(0, 2**52 - 1))),
        "size 1152921504606846976",
    ),
    "an entry rewritten with its hashes": (rewritten(lambda history: signed_over(write())), "leaves 499 to 598"),
    "an entry left out with its hash": (without(650), "tile/"),
    "a history signed by somebody else": (rewritten(lambda history: signed_over(history, log=THIEF)), "checkpoint"),
    "a history signed again by the log alone": (
        rewritten(lambda history: signed_over(history, witness=None)),
        "checkpoint",
    ),
    "a history signed again by the log and the witness": (rewritten(signed_over), "leaves 499 to 598"),
}


def test_a_copy_is_not_read_to_an_end_that_it_cannot_hold(folder: Path) -> None:
    checkpoint(resized(2**60))(folder)
    _stray(folder, Tile(0, 2**52 - 1))
    with pytest.raises(Rejected, match=r"1152921504606846976 entries, and there are tiles for 1280 at most"):
        next(Log(folder).entries())


@pytest.mark.parametrize("kind", sorted(TAMPERING))
def test_tampering_is_found_and_named(folder: Path, kind: str, written: Written) -> None:
    tamper, where = TAMPERING[kind]
    if kind == "a long entry's frame changed":
        stub = stands_for(entry_of(written.frames[LONG]))
        assert stub is not None
        tamper = flip(frame_of(stub[1]), 60_000)
    tamper(folder)
    report = check(folder)
    assert not report.holds
    assert any(fault.where.startswith(where) for fault in report.faults), report.faults[:5]


#: What cannot be seen in tiles, bundles and checkpoint alone, whoever looks: it takes what stands in the entries, what
#: stands beside them, or a checkpoint from before. And what another program would read for ever.
UNSEEN = {
    "a bundle behind the end",
    "a tile of another size",
    "a part beside its bundle",
    "a frame that no entry names",
    "a bundle that is a pipe",
    "a bundle that has no end",
    "a size beyond all bounds",
    "a bundle of nothing but empty entries",
    "a long entry's frame changed",
    "a long entry's frame left out",
    "a history signed again by the log and the witness",
}


@pytest.mark.parametrize("kind", sorted(set(TAMPERING) - UNSEEN))
def test_another_program_does_not_accept_it_either(folder: Path, kind: str) -> None:
    TAMPERING[kind][0](folder)
    assert not accepts(folder, *VKEYS)


def test_an_artifact_whose_bytes_are_not_those_of_its_name_is_named(folder: Path) -> None:
    digest = sha256(b"a model").hexdigest()
    file = folder / "artifact" / digest[:2] / digest
    file.parent.mkdir(parents=True)
    file.write_bytes(b"a model")
    assert check(folder).holds
    file.write_bytes(b"a modem")
    (fault,) = check(folder).faults
    assert fault.where == f"artifact/{digest[:2]}/{digest}"


def test_an_entry_changed_with_its_hash_is_named_by_its_bundle(folder: Path) -> None:
    edit(562, flipped)(folder)
    path, place = at(562)
    tile = folder / Tile(0, 2).path
    hashes = bytearray(tile.read_bytes())
    hashes[32 * place : 32 * place + 32] = leaf_hash(unpack_entries((folder / path).read_bytes())[place])
    tile.write_bytes(bytes(hashes))
    told = {fault.where: fault.what for fault in check(folder).faults}
    assert told[Tile(1, 0, 3).path].endswith("those of leaves 512 to 767")


@pytest.mark.parametrize(("entry", "tile", "hash_of"), [(100, 2, 562), (570, 2, 562), (562, 0, 3), (999, 1, 300)])
def test_an_entry_and_the_hash_of_another_are_each_told_for_what_they_are(
    folder: Path, entry: int, tile: int, hash_of: int
) -> None:
    edit(entry, flipped)(folder)
    flip(Tile(0, tile).path, 32 * (hash_of - 256 * tile))(folder)
    told = {fault.where.split(" (")[0]: fault.what for fault in check(folder).faults}
    assert told[f"leaf {entry}"] == "its bytes are not the ones that were archived"
    assert told[f"leaf {hash_of}"].startswith("its hash in the tile is another")


def test_a_checkpoint_among_the_entries_that_the_log_did_not_sign_attests_nothing(folder: Path) -> None:
    forged_claim(folder)
    report = check(folder)
    assert (report.holds, report.checkpoints) == (True, 0)
    (unread,) = report.unread
    assert (unread.why, unread.first_leaf, unread.count) == ("no checkpoint that the log signed", 99, 10)


def test_whoever_kept_a_checkpoint_is_not_deceived_by_both_keys(folder: Path, written: Written) -> None:
    kept = signed_over(written, 700)
    assert check(folder, kept).holds
    assert accepts(folder, *VKEYS, kept.render().decode())
    history = write(mark="0")
    _replace(folder, history, signed_over(history))
    assert check(folder).holds  # a whole other history, with all its checkpoints, signed by both
    report = check(folder, kept)
    assert [fault.where for fault in report.faults] == ["leaves 0 to 699"]
    assert not accepts(folder, *VKEYS, kept.render().decode())
