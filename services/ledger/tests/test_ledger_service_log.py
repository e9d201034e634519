"""The log over HTTP: another program follows it as it grows."""

from collections.abc import AsyncIterator, Callable, Sequence
from hashlib import sha256
from pathlib import Path

import httpx
import pytest
from starlette.applications import Starlette
from tlog_scales import reader, signing
from typing_extensions import override

from mainstem.events.frames import Entry, frame
from mainstem.ledger.entry import entry_of
from mainstem.ledger.note import Note
from mainstem.ledger_service.api import Api
from mainstem.ledger_service.folder import Folder, Forked
from mainstem.ledger_service.publishing import Publisher
from mainstem.ledger_service.recovery import republish
from mainstem.ledger_service.store import PostgresStore
from mainstem.runtime.health import Health
from mainstem.runtime.http import application
from mainstem.testkit.cosigner import LOG, WITNESS

pytestmark = pytest.mark.real

Write = Callable[..., list[Entry]]


class Fetched(reader.TilesBackend):
    """What was fetched from the log, for the other program to read."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}

    @override
    def get(self, *path: str) -> bytes | None:
        return self.files.get("/".join(path))


@pytest.fixture
async def client(store: PostgresStore, tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    app: Starlette = application(Health(), Api(store, Folder(tmp_path / "log", LOG.log_key)).routes())
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://ledger") as client:
        yield client


async def fetch(client: httpx.AsyncClient, paths: Sequence[str]) -> Fetched:
    fetched = Fetched()
    for path in paths:
        answer = await client.get(f"/log/{path}")
        assert answer.status_code == 200, path
        fetched.files[path] = answer.content
    return fetched


async def test_another_program_follows_the_log_over_http(
    store: PostgresStore, write: Write, publisher: Publisher, client: httpx.AsyncClient
) -> None:
    assert (await client.get("/log/checkpoint")).status_code == 404
    entries = write(range(1_500))
    for part in (entries[:5], entries[5:700], entries[700:701], entries[701:]):
        await store.archive(part)
        await publisher.publish(store)
    tiles = ["tile/0/000", "tile/0/004", "tile/0/005.p/220", "tile/1/000.p/5", "tile/0/001", "tile/0/002", "tile/0/003"]
    bundles = [f"tile/entries/00{index}" for index in range(5)]
    fetched = await fetch(client, ["checkpoint", *tiles, *bundles, "tile/entries/005.p/220"])
    log = reader.TilesReader(fetched)
    checkpoint = log.get_checkpoint()
    for key in (LOG.log_key, WITNESS.witness_key):
        checkpoint.verify(signing.Vkey.from_string(key.vkey()))
    assert (checkpoint.size, log.calculate_root_hash()) == (1_500, checkpoint.root_hash)
    for leaf, entry in enumerate(entries):
        assert log.get_entry(leaf) == entry_of(frame(entry))
        proof = log.get_inclusion_proof(leaf, checkpoint.size)
        proof.check(sha256(b"\0" + log.get_entry(leaf)).digest(), checkpoint.root_hash)


async def test_a_part_of_a_bundle_is_the_beginning_of_the_whole(
    store: PostgresStore, write: Write, publisher: Publisher, client: httpx.AsyncClient
) -> None:
    await store.archive(write(range(300)))
    await publisher.publish(store)
    paths = ["tile/entries/000", "tile/entries/000.p/7", "tile/0/000", "tile/0/000.p/7"]
    found = (await fetch(client, paths)).files
    for whole, part in (paths[:2], paths[2:]):
        assert found[whole].startswith(found[part])
        assert len(found[part]) < len(found[whole])


@pytest.mark.parametrize(
    "path",
    ["tile/0/002", "tile/0/001.p/45", "tile/entries/001", "tile/entries/001.p/45", "tile/9/000", "tile/0/1", "note",
     "%2e%2e/settings", "tile/entries/%2e%2e/%2e%2e/checkpoint", ""],
)  # fmt: skip
async def test_what_the_log_does_not_have_is_not_found(
    store: PostgresStore, write: Write, publisher: Publisher, client: httpx.AsyncClient, path: str
) -> None:
    await store.archive(write(range(300)))
    await publisher.publish(store)
    await store.archive(write(range(300, 400), first_offset=300))  # no checkpoint covers these yet
    answer = await client.get(f"/log/{path}")
    assert (answer.status_code, answer.json()["type"]) == (404, "mainstem:no_such_tile")


@pytest.fixture
async def published(store: PostgresStore, write: Write, publisher: Publisher) -> Note | None:
    """Publish 300 entries."""
    await store.archive(write(range(300)))
    return await publisher.publish(store)


def link(file: Path, other: Path) -> None:
    file.unlink()
    file.symlink_to(other)


@pytest.mark.parametrize(
    "spoil",
    [
        link,
        lambda file, _: file.write_bytes(file.read_bytes()[:-1]),
        lambda file, _: file.write_bytes(file.read_bytes() + b"x"),
    ],
    ids=["a link", "too short", "too long"],
)
@pytest.mark.parametrize("path", ["tile/0/001.p/44", "tile/0/000"])
@pytest.mark.usefixtures("published")
async def test_what_is_no_tile_is_not_given_away(
    client: httpx.AsyncClient, tmp_path: Path, spoil: Callable[[Path, Path], object], path: str
) -> None:
    file, secret = tmp_path / "log" / path, tmp_path / "secret"
    secret.write_bytes(file.read_bytes())
    spoil(file, secret)
    answer = await client.get(f"/log/{path}")
    assert (answer.status_code, answer.json()["type"]) == (503, "mainstem:damaged")
    assert path in answer.json()["detail"]


async def test_a_log_is_published_anew_from_its_archive_alone(
    store: PostgresStore, write: Write, publisher: Publisher, tmp_path: Path
) -> None:
    await store.archive(write(range(66_000)))
    note = await publisher.publish(store)
    assert note is not None
    anew = Folder(tmp_path / "anew", LOG.log_key)
    await republish(store, anew, note)
    files = [file.relative_to(tmp_path / "log") for file in (tmp_path / "log").rglob("*") if file.is_file()]
    assert len(files) == 258 + 2 + 1 + 1
    assert [(tmp_path / "anew" / file).read_bytes() for file in files] == [
        (tmp_path / "log" / file).read_bytes() for file in files
    ]
    assert anew.edge().size == 66_000


async def test_an_archive_that_makes_another_root_is_not_published(
    store: PostgresStore, write: Write, published: Note, tmp_path: Path
) -> None:
    await store.archive(write(range(300, 301), first_offset=300))
    with pytest.raises(Forked, match="another root than the checkpoint over 300"):
        await republish(store, Folder(tmp_path / "anew", LOG.log_key), published)
    assert not (tmp_path / "anew" / "checkpoint").exists()
