"""The witness: cosigns what extends what it cosigned last, remembers it whatever happens, and refuses the rest."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from mainstem.events.errors import Rejected
from mainstem.ledger import Tree, leaf_hashes
from mainstem.ledger.checkpoint import Checkpoint
from mainstem.ledger.note import Note, NoteError, Signature
from mainstem.ledger.witness import SIZE_TYPE, Submission
from mainstem.runtime.health import Health
from mainstem.runtime.http import application
from mainstem.testkit.cosigner import LOG, WITNESS
from mainstem.witness.api import Api
from mainstem.witness.app import logs
from mainstem.witness.memory import Memory

TREE = Tree(leaf_hashes([b"entry %d" % number for number in range(100)]))
FORK = Tree(leaf_hashes([b"other %d" % number for number in range(100)]))
NOW_S = 1_700_000_000


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[Memory]:
    with Memory(tmp_path, WITNESS.witness_key).held() as memory:
        yield memory


def submission(old: int, size: int, tree: Tree = TREE) -> bytes:
    text = Checkpoint(LOG.name, size, tree.root(size)).text()
    return Submission(old, tuple(tree.consistency(old, size)), Note(text, (LOG.sign(text),))).render()


def kept(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


async def submit(memory: Memory, body: bytes) -> httpx.Response:
    app = application(Health(), Api(memory, WITNESS, {LOG.name: LOG.log_key}, lambda: NOW_S).routes())
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://witness") as client:
        return await client.post("/add-checkpoint", content=body)


async def test_a_log_that_grows_is_cosigned_at_every_size(memory: Memory) -> None:
    for old, size in ((0, 1), (1, 1), (1, 64), (64, 100)):
        answer = await submit(memory, submission(old, size))
        assert answer.status_code == 200
        text = Checkpoint(LOG.name, size, TREE.root(size)).text()
        cosigned = Note(text, (Signature.parse(answer.text.removesuffix("\n")),))
        assert list(cosigned.signed_by([WITNESS.witness_key])) == [WITNESS.witness_key]
    assert memory.latest == {LOG.name: Checkpoint(LOG.name, 100, TREE.root())}


async def test_a_fork_is_refused_at_every_size_and_forgotten_by_nobody(memory: Memory, tmp_path: Path) -> None:
    assert (await submit(memory, submission(0, 40))).status_code == 200
    before = kept(tmp_path)
    for size in range(40, 101):
        assert (await submit(memory, submission(40, size, FORK))).status_code == (409 if size == 40 else 422)
    assert kept(tmp_path) == before


async def test_a_log_that_was_set_back_is_told_how_far_it_was(memory: Memory) -> None:
    assert (await submit(memory, submission(0, 40))).status_code == 200
    answer = await submit(memory, submission(0, 30))
    assert (answer.status_code, answer.text, answer.headers["content-type"]) == (409, "40\n", SIZE_TYPE)


async def test_what_is_no_submission_is_refused(memory: Memory) -> None:
    text = Checkpoint("example.com/unknown", 1, TREE.root(1)).text()
    unknown = Submission(0, (), Note(text, (LOG.sign(text),))).render()
    mine = Checkpoint(LOG.name, 1, TREE.root(1)).text()
    forged = Submission(0, (), Note(mine, (WITNESS.sign(mine),))).render()
    answers = [await submit(memory, body) for body in (b"", b"old 0\n\n", unknown, forged)]
    assert [answer.status_code for answer in answers] == [400, 400, 404, 403]
    assert memory.latest == {}


async def test_what_was_cosigned_is_remembered_by_the_next_process(tmp_path: Path) -> None:
    with Memory(tmp_path, WITNESS.witness_key).held() as memory:
        assert (await submit(memory, submission(0, 40))).status_code == 200
    with Memory(tmp_path, WITNESS.witness_key).held() as again:
        assert (await submit(again, submission(0, 30))).status_code == 409
        (note,) = again.notes
        assert {*note.signed_by([LOG.log_key]), *note.signed_by([WITNESS.witness_key])} == {
            LOG.log_key,
            WITNESS.witness_key,
        }


async def test_nothing_is_cosigned_that_cannot_be_remembered(memory: Memory, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr("mainstem.witness.memory.replace_file", full)
    with pytest.raises(OSError, match="No space left"):
        await submit(memory, submission(0, 40))
    assert memory.latest == {}


def test_a_memory_has_one_process(memory: Memory, tmp_path: Path) -> None:
    with pytest.raises(Rejected, match="another process cosigns"), Memory(tmp_path, WITNESS.witness_key).held():
        pass


async def test_a_memory_that_was_tampered_with_is_none(tmp_path: Path) -> None:
    with Memory(tmp_path, WITNESS.witness_key).held() as memory:
        assert (await submit(memory, submission(0, 40))).status_code == 200
    ((name, note),) = kept(tmp_path).items()
    (tmp_path / name).write_bytes(note.replace(b"\n40\n", b"\n30\n"))
    again = Memory(tmp_path, WITNESS.witness_key)
    with pytest.raises(Rejected, match=r"is not what example\.com/witness cosigned"), again.held():
        pass


def test_keys_of_logs_are_read_one_a_line() -> None:
    assert logs(f"{LOG.log_key.vkey()}\n") == {LOG.name: LOG.log_key}
    with pytest.raises(NoteError, match="is no key of a log"):
        logs(WITNESS.witness_key.vkey())
    for text in ("", f"{LOG.log_key.vkey()}\n{LOG.log_key.vkey()}"):
        with pytest.raises(Rejected, match="one a line"):
            logs(text)
