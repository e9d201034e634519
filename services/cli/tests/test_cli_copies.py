"""Copies of the log by the commands: exported from a real archive, verified and proven without one."""

import asyncio
import json
from base64 import b64decode
from collections.abc import AsyncIterator
from hashlib import sha256
from pathlib import Path

import pytest
from tlog_scales import reader, tlog
from tlog_scales.backend import LocalBackend
from typer.testing import CliRunner

from mainstem.cli.archive import open_schema
from mainstem.cli.main import app
from mainstem.events.catalogue import encode
from mainstem.events.data import RecordAccepted
from mainstem.events.envelope import begin
from mainstem.events.frames import Entry
from mainstem.events.registry import VersionApproved, VersionRegistered
from mainstem.ledger_service.folder import Folder
from mainstem.ledger_service.publishing import Publisher
from mainstem.ledger_service.store import PostgresStore
from mainstem.storage.artifacts import Artifacts
from mainstem.testkit.cosigner import LOG, WITNESS, Cosigner
from mainstem.testkit.examples import example

pytestmark = pytest.mark.real

MAY = 1_367_366_400_000_000
VKEYS = ("--log-key", LOG.log_key.vkey(), "--witness-key", WITNESS.witness_key.vkey())


def record(number: int) -> Entry:
    fact = RecordAccepted(source="gauge", contract="sha256:0", record={"level": number})
    message = encode(begin(fact, command_id=f"record-{number}", source="/test", actor="test", recorded_us=MAY + number))
    return Entry(message.topic, 0, number, 0, message.key, message.value, message.headers)


def approval(number: int, onnx: str) -> Entry:
    fact = VersionApproved(model="tide", version=number, onnx=onnx, approved_by="ann")
    message = encode(begin(fact, command_id=f"approve-{number}", source="/test", actor="ann", recorded_us=MAY + number))
    return Entry(message.topic, 0, number, 0, message.key, message.value, message.headers)


@pytest.fixture
def publisher(tmp_path: Path) -> Publisher:
    return Publisher(Folder(tmp_path / "log", LOG.log_key), LOG, WITNESS.witness_key, Cosigner().ask)


@pytest.fixture
async def store(
    database_url: str, tmp_path: Path, publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[PostgresStore]:
    """Lend an archive with a checkpoint over all of it."""
    monkeypatch.setenv("MAINSTEM_DATABASE_URL", database_url)
    monkeypatch.setenv("MAINSTEM_ARTIFACTS", str(tmp_path / "artifacts"))
    onnx = Artifacts(tmp_path / "artifacts").put(b"a model")
    async with open_schema(database_url, "ledger", "mainstem.ledger_service") as database:
        store = PostgresStore(database)
        await store.archive([*map(record, range(3_000)), *(approval(number, onnx) for number in range(20))])
        await publisher.publish(store)
        yield store


async def command(*arguments: object) -> tuple[int, str]:
    # A command runs its own loop, so it runs in a thread of its own.
    result = await asyncio.to_thread(CliRunner().invoke, app, [str(each) for each in arguments])
    return result.exit_code, result.stdout


async def export(folder: Path, *more: object) -> dict[str, object]:
    code, said = await command("audit", "export", folder, *more, "-o", "json")
    assert code == 0
    (facts,) = json.loads(said)
    return dict(facts)


@pytest.mark.usefixtures("store")
async def test_what_is_exported_is_what_the_log_published_and_holds(tmp_path: Path) -> None:
    facts = await export(tmp_path / "copy", "--artifacts")
    assert (facts["size"], facts["entries"], facts["withheld"], facts["artifacts"]) == (3_020, 3_020, 0, 1)
    for name in ("checkpoint", "tile/0/000", "tile/0/011.p/204", "tile/1/000.p/11"):
        assert (tmp_path / "copy" / name).read_bytes() == (tmp_path / "log" / name).read_bytes()
    code, said = await command("audit", "verify", tmp_path / "copy", *VKEYS, "-o", "json")
    assert (code, json.loads(said)["holds"], json.loads(said)["entries"]) == (0, True, 3_020)


async def test_a_copy_without_what_a_version_cannot_be_without_is_told(store: PostgresStore, tmp_path: Path) -> None:
    address = f"sha256:{sha256(b'gone').hexdigest()}"
    fact = example(VersionRegistered, model="tide", version=7, onnx=address, profile=address)
    message = encode(begin(fact, command_id="register", source="/test", actor="ann", recorded_us=MAY))
    await store.archive([Entry(message.topic, 0, 20, 0, message.key, message.value, message.headers)])
    await Publisher(Folder(tmp_path / "log", LOG.log_key), LOG, WITNESS.witness_key, Cosigner().ask).publish(store)
    result = await asyncio.to_thread(CliRunner().invoke, app, ["audit", "export", str(tmp_path / "c"), "--artifacts"])
    assert result.exit_code == 1
    assert f"lacks {address}, which tide version 7 cannot be without" in " ".join(result.output.split())


@pytest.mark.usefixtures("store")
async def test_what_lies_below_the_artifacts_of_a_copy_is_one_under_its_name(tmp_path: Path) -> None:
    await export(tmp_path / "copy", "--artifacts")
    (file,) = (tmp_path / "copy" / "artifact").glob("??/*")
    (tmp_path / "copy" / "artifact" / "zz").mkdir()
    (tmp_path / "copy" / "artifact" / "zz" / file.name).write_bytes(file.read_bytes())
    (tmp_path / "copy" / "artifact" / "junk").write_bytes(b"x")
    code, said = await command("audit", "verify", tmp_path / "copy", *VKEYS)
    assert code == 1
    assert f"artifact/zz/{file.name}: it is no artifact" in said
    assert "artifact/junk: it is no artifact" in said


@pytest.mark.usefixtures("store")
async def test_verification_needs_no_platform_and_names_what_was_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await export(tmp_path / "copy")
    monkeypatch.delenv("MAINSTEM_DATABASE_URL")
    bundle = tmp_path / "copy" / "tile" / "entries" / "003"
    bundle.write_bytes(bundle.read_bytes().replace(b'"level":770', b'"level":777'))
    code, said = await command("audit", "verify", tmp_path / "copy", *VKEYS)
    assert code == 1
    assert "DAMAGED leaf 770 (evt.data.gauge/0/770, event id" in said
    assert "verdict      damaged, 1 faults" in said


@pytest.mark.usefixtures("store")
async def test_a_part_has_the_entries_that_were_asked_for_and_the_hashes_of_all(tmp_path: Path) -> None:
    topic = await export(tmp_path / "topic", "--topic", "evt.registry.*")
    leaves = await export(tmp_path / "leaves", "--from", 700, "--to", 1_100)
    assert (topic["entries"], topic["withheld"], leaves["entries"]) == (20, 3_000, 400)
    for folder in (tmp_path / "topic", tmp_path / "leaves"):
        code, said = await command("audit", "verify", folder, *VKEYS, "--part")
        assert (code, "verdict      holds" in said) == (0, True)
        code, said = await command("audit", "verify", folder, *VKEYS)
        assert (code, "DAMAGED leaf 0: " in said) == (1, True)


@pytest.mark.usefixtures("store")
async def test_a_proof_is_found_by_event_id_or_leaf_and_another_program_accepts_it(tmp_path: Path) -> None:
    await export(tmp_path / "copy")
    log = reader.TilesReader(LocalBackend(tmp_path / "copy"))
    root = log.get_checkpoint().root_hash
    sought = approval(7, "").headers
    event_id = next(value for name, value in sought if name == "ce_id").decode()
    by_id, by_leaf = [await command("audit", "prove", tmp_path / "copy", wanted) for wanted in (event_id, 3_007)]
    assert by_id == by_leaf
    head, index, *path = by_id[1].split("\n\n")[0].split("\n")
    assert (head, index) == ("c2sp.org/tlog-proof@v1", "index 3007")
    hashes = [b64decode(line) for line in path]
    tlog.InclusionProof(3_007, 3_020, hashes).check(sha256(b"\0" + log.get_entry(3_007)).digest(), root)


@pytest.mark.usefixtures("store")
async def test_a_proof_of_what_was_changed_is_not_given(tmp_path: Path) -> None:
    await export(tmp_path / "copy")
    bundle = tmp_path / "copy" / "tile" / "entries" / "003"
    bundle.write_bytes(bundle.read_bytes().replace(b'"level":770', b'"level":777'))
    assert (await command("audit", "prove", tmp_path / "copy", 770))[0] == 1
    assert (await command("audit", "prove", tmp_path / "copy", 769))[0] == 0
    (tmp_path / "copy" / "tile" / "0" / "003").unlink()
    assert (await command("audit", "prove", tmp_path / "copy", 769))[0] == 1


@pytest.mark.usefixtures("store")
async def test_a_folder_that_cannot_be_written_is_told_as_what_it_is(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        result = await asyncio.to_thread(CliRunner().invoke, app, ["audit", "export", str(folder)])
        assert result.exit_code == 1
        assert "cannot be made" in result.output


async def test_a_log_that_grew_extends_the_checkpoint_that_was_kept(
    tmp_path: Path, store: PostgresStore, publisher: Publisher
) -> None:
    await export(tmp_path / "first")
    await store.archive([record(number) for number in range(3_000, 3_500)])
    await publisher.publish(store)
    await export(tmp_path / "second")
    first, second = (tmp_path / name / "checkpoint" for name in ("first", "second"))
    assert (await command("audit", "verify", tmp_path / "second", *VKEYS, "--since", first))[0] == 0
    code, said = await command("audit", "verify", tmp_path / "first", *VKEYS, "--since", second)
    assert code == 1
    assert "DAMAGED size 3020: the checkpoint kept from before has 3520 entries" in said
