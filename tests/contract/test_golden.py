"""What earlier releases wrote is read as they read it: each history of theirs gives the tables that it gave then."""

import json
from pathlib import Path

import pytest
from tests.contract.golden import HISTORY, TABLES, read, tables, written

from mainstem.audit.entries import Reading
from mainstem.events.catalogue import BY_TYPE
from mainstem.events.frames import frame
from mainstem.events.record import header

HISTORIES = sorted((Path(__file__).parent / "golden").iterdir())
named = pytest.mark.parametrize("history", HISTORIES, ids=lambda folder: folder.name)


@named
@pytest.mark.real
async def test_a_history_gives_the_tables_that_it_gave_when_it_was_written(
    history: Path, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MAINSTEM_DATABASE_URL", database_url)
    entries = list(read(history / HISTORY))
    found, then = await tables(entries, database_url), json.loads((history / TABLES).read_text())
    assert {name: found[name] for name in then} == then
    assert [(name, rows) for name, (rows, _) in found.items() if name not in then and rows] == []


@named
def test_every_entry_of_a_history_can_be_read(history: Path) -> None:
    reading = Reading()
    entries = list(read(history / HISTORY))
    for leaf, entry in enumerate(entries):
        reading.take(leaf, frame(entry))
    assert (reading.unread, reading.faults) == ([], [])
    assert [written(entry) for entry in entries] == (history / HISTORY).read_text().splitlines()


@named
def test_a_history_has_most_kinds_of_events(history: Path) -> None:
    kinds = {(header(entry, "ce_type") or b"").decode() for entry in read(history / HISTORY)}
    assert len(kinds & BY_TYPE.keys()) >= 20
