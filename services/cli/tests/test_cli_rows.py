"""Rows as a Parquet file: what stands in it, and the label of each row."""

import json
from dataclasses import replace
from itertools import permutations

import numpy as np
import pyarrow.parquet as pq
import pytest

from mainstem.cli.labels import Labels, declared_labels, worded
from mainstem.cli.recomputation import Stretch
from mainstem.cli.row_files import RowFile, by_topic, recorded_within
from mainstem.events.data import ProgressReached
from mainstem.events.errors import Rejected
from mainstem.events.instants import NEVER, render
from mainstem.feature_engine import feature_set, load, target
from mainstem.project import Label, ProjectDefinition
from mainstem.testkit.projects import shop, storms
from mainstem.testkit.records import Taken

NAN = float("nan")
COMPILED = shop().feature_sets["buying"].compiled
RULE = Label(source="payments", key="shop", column="paid", above=10, wait="1h")
WAIT = RULE.wait


def item(number, shop_name="s", time_us=0, recorded_us=None):
    """Return a spine record of a shop."""
    recorded = render(time_us if recorded_us is None else recorded_us).encode()
    headers = {"ce_id": f"id-{number}".encode(), "ce_time": render(time_us).encode(), "ce_recordedtime": recorded}
    value = json.dumps({"record": {"shop": shop_name, "amount": 1}}).encode()
    return Taken("evt.data.orders", key=shop_name.encode(), value=value), headers


def rows(*items, first=0):
    """Return a stretch of rows, every second value of which is unknown."""
    values = np.array([[number, NAN, 0.1, NAN] for number in range(len(items))])
    return Stretch(list(items), values, first + np.arange(len(items)))


def paid(amount, known_us, shop_name="s", partition=0, offset=0):
    """Return an accepted payment."""
    value = json.dumps({"record": {"shop": shop_name, "paid": amount}}).encode()
    headers = (("ce_type", b"mainstem.data.record_accepted.v1"), ("ce_recordedtime", render(known_us).encode()))
    return Taken("evt.data.payments", partition, offset, value, headers=headers)


def passed(until_us, partition):
    """Return a progress marker."""
    value = ProgressReached(until=render(until_us)).model_dump_json().encode()
    return Taken("evt.data.payments", partition, value=value, headers=(("ce_type", ProgressReached.TYPE.encode()),))


def labels(*records):
    found = Labels(RULE, shop(), "buying")
    found.take(records)
    return found


def written(path, stretches, labels=None):
    with RowFile(path, COMPILED, labels) as file:
        for stretch in stretches:
            file.write(stretch)
    return pq.read_table(path)


def test_a_row_has_its_times_its_position_and_its_values(tmp_path):
    stretch = rows(item(0), item(1, "t", 5, 7), first=40)
    table = written(tmp_path / "rows.parquet", [stretch])
    assert table.column_names == ["spine_id", "entity", "event_time", "recorded_time", "position", *COMPILED.names]
    last = table.to_pylist()[1]
    assert [last[name] for name in ("spine_id", "entity", "position", *COMPILED.names)] == [
        "id-1", "t", 41, 1.0, None, 0.1, None
    ]  # fmt: skip
    assert [table[name].cast("int64").to_pylist()[1] for name in ("event_time", "recorded_time")] == [5, 7]
    assert str(table.schema.field("event_time").type) == "timestamp[us, tz=UTC]"


def test_the_file_says_of_which_set_it_is_and_what_was_read(tmp_path):
    with RowFile(tmp_path / "rows.parquet", COMPILED) as file:
        file.tell(positions=by_topic({("b", 10): 3, ("b", 2): 2, ("a", 0): 1}), label=None)
    about = pq.read_metadata(tmp_path / "rows.parquet").metadata
    assert (about[b"mainstem.feature_set"], about[b"mainstem.definition"]) == (b"buying", COMPILED.id.encode())
    assert json.loads(about[b"mainstem.positions"]) == {"a": {"0": 1}, "b": {"2": 2, "10": 3}}
    assert pq.read_schema(tmp_path / "rows.parquet").metadata[b"mainstem.feature_set"] == b"buying"


def test_a_file_in_a_folder_that_is_not_there_is_refused_by_name(tmp_path):
    file = tmp_path / "nowhere" / "rows.parquet"
    with (
        pytest.raises(Rejected, match=rf"{file} cannot be written \(.+\); name a file in a folder"),
        RowFile(file, COMPILED),
    ):
        pass


def test_a_file_that_was_not_finished_is_not_there(tmp_path):
    with pytest.raises(ArithmeticError), RowFile(tmp_path / "rows.parquet", COMPILED):
        raise ArithmeticError
    assert list(tmp_path.iterdir()) == []


def test_a_span_holds_its_first_instant_and_not_its_last():
    inside = recorded_within(rows(*(item(at, time_us=at) for at in range(5))), 1, 3)
    assert [headers["ce_id"] for _, headers in inside.spine] == [b"id-1", b"id-2"]
    assert (inside.values[:, 0].tolist(), inside.positions.tolist()) == ([1.0, 2.0], [1, 2])


@pytest.mark.parametrize("name", ["position", "label"])
def test_a_feature_with_the_name_of_another_column_is_refused(tmp_path, name):
    spec = json.loads(json.dumps(COMPILED.spec))
    spec["features"][0]["name"] = name  # as it could be written once
    compiled = load(spec)
    with pytest.raises(Rejected, match=f"feature '{name}' has the name of another column"):
        RowFile(tmp_path / "rows.parquet", compiled, labels())


@pytest.mark.parametrize(
    ("known_us", "label"),
    [(-1, None), (0, None), (1, True), (WAIT - 1, True), (WAIT, True), (WAIT + 1, None)],
)
def test_a_label_counts_after_the_event_and_up_to_the_end_of_the_wait(known_us, label):
    assert labels(paid(11, known_us)).of("s", 0) is label


@pytest.mark.parametrize(("amount", "label"), [(10, False), (10.01, True), (9.99, False), (-3, False), (None, None)])
def test_a_label_is_true_above_the_number_and_not_at_it(amount, label):
    assert labels(paid(amount, 5)).of("s", 0) is label


def test_of_several_labels_the_last_in_time_counts():
    later = labels(
        paid(5, 30, offset=1), paid(50, 20, partition=1), paid(5, WAIT + 1, offset=2), paid(None, 40, offset=3)
    )
    assert later.of("s", 0) is False
    assert later.of("s", -WAIT + 25) is True


@pytest.mark.parametrize("order", list(permutations(range(4))))
def test_of_labels_that_became_known_at_once_the_last_in_the_log_counts(order):
    at_once = [paid(50, 5), paid(5, 5, offset=1), paid(50, 5, partition=1), paid(5, 5, partition=1, offset=1)]
    found = labels(paid(50, 4, offset=9), *(at_once[place] for place in order), paid(50, 9, offset=9))
    assert (found.of("s", 5 - WAIT), found.of("s", 4 - WAIT)) == (False, True)


def test_a_label_that_did_not_come_is_none():
    assert labels(paid(50, 5, "another")).of("s", 0) is None
    assert labels(paid(50, 5)).of("", 0) is None


def test_the_last_rows_are_labelled_by_what_came_until_the_end(tmp_path):
    table = written(
        tmp_path / "rows.parquet", [rows(item(0), item(1, "t"), item(2, "u"))], labels(paid(50, 5), paid(1, 9, "t"))
    )
    assert table["label"].to_pylist() == [True, False, None]


def test_a_row_is_labelled_by_what_it_is_known_by(tmp_path):
    record, headers = item(0)
    table = written(
        tmp_path / "rows.parquet", [rows((replace(record, value=b'{"record":{}}'), headers))], labels(paid(50, 5))
    )
    assert (table["entity"].to_pylist(), table["label"].to_pylist()) == (["s"], [True])


def test_a_key_that_is_no_text_is_written_as_the_stream_writes_it(tmp_path):
    record, headers = item(0)
    table = written(tmp_path / "rows.parquet", [rows((replace(record, key=b"\xff"), headers))], labels(paid(50, 5)))
    assert (table["entity"].to_pylist(), table["label"].to_pylist()) == (["\ufffd"], [None])


def test_a_row_waits_until_no_label_of_it_can_come_any_more(tmp_path):
    found = labels(passed(WAIT, 0))
    with RowFile(tmp_path / "rows.parquet", COMPILED, found) as file:
        file.write(rows(item(0)))
        found.take([paid(50, WAIT, partition=1), passed(WAIT, 1)])
        file.write(rows(item(1, "t", WAIT)))
        found.take([paid(50, 7, offset=9)])  # behind the markers: nobody announces and then sends
    assert pq.read_table(tmp_path / "rows.parquet")["label"].to_pylist() == [True, None]


def test_no_label_is_awaited_of_a_source_that_announces_nothing(tmp_path):
    found = labels()
    assert found.through == NEVER
    with RowFile(tmp_path / "rows.parquet", COMPILED, found) as file:
        file.write(rows(item(0)))
        file.write(rows(item(1, "t", 10 * WAIT)))
        found.take([paid(50, 7)])
    assert pq.read_table(tmp_path / "rows.parquet")["label"].to_pylist() == [True, None]


@pytest.mark.parametrize(
    "value",
    [
        b"{",
        None,
        b'{"record":7}',
        b'{"record":{"shop":7,"paid":50}}',
        b'{"record":{}}',
        b'{"record":{"shop":"s","paid":50,"note":"\xff"}}',
        b'{"record":{"note":' + b"[" * 100_000,
    ],
)
def test_what_is_no_accepted_record_is_no_label_and_is_counted(value):
    found = labels(replace(paid(50, 5), value=value), paid(50, 5, "another"))
    assert (found.of("s", 0), found.of("another", 0), found.unreadable) == (None, True, 1)


@pytest.mark.parametrize("value", [b"{", None, b'{"until":"\xff"}', b'{"until":7}'])
def test_what_is_called_a_marker_and_announces_nothing_is_passed_over_and_counted(value):
    found = labels(passed(1, 0), passed(1, 1), replace(passed(9, 0), value=value))
    assert (found.through, found.unreadable) == (1, 1)


def test_an_event_of_another_type_is_no_label():
    headers = (("ce_type", b"test.v1"), ("ce_recordedtime", render(5).encode()))
    assert labels(replace(paid(50, 5), headers=headers)).of("s", 0) is None


def test_a_label_that_is_joined_by_a_number_is_refused():
    document = shop().model_dump(mode="json")
    columns = document["sources"]["payments"]["columns"]
    document["sources"]["refunds"] = document["sources"]["payments"] | {
        "name": "refunds",
        "key": "till",
        "columns": {"till": columns["shop"], "shop": columns["paid"], "paid": columns["paid"]},
    }
    with pytest.raises(
        Rejected, match="joined by 'shop', a fixed column of 'refunds', which is never what a row is known"
    ):
        Labels(RULE.model_copy(update={"source": "refunds"}), ProjectDefinition.model_validate(document), "buying")


def test_the_models_of_a_set_say_what_its_label_is():
    (label,) = declared_labels(storms(), "gusts")
    assert worded(label) == "outcome.loss > 10 within 6h, joined by sensor"
    assert declared_labels(shop(), "buying") == []


def test_the_target_of_a_set_goes_before_the_labels_of_its_models():
    document = storms().model_dump(mode="json")
    reading, outcome = (storms().sources[name].stream() for name in ("reading", "outcome"))
    declared = {"wind": reading.wind, "lost": target(outcome.loss > 2.5, on="sensor", wait="3h")}
    compiled = feature_set("gusts", spine=reading, lateness="1h")(type("Gusts", (), declared)).compile()
    document["feature_sets"]["gusts"] = {"id": compiled.id, "spec": compiled.spec}
    (label,) = declared_labels(ProjectDefinition.model_validate(document), "gusts")
    assert worded(label) == "outcome.loss > 2.5 within 3h, joined by sensor"


@pytest.mark.parametrize(
    ("otherwise", "why"),
    [
        ({"source": "refunds"}, "'refunds', which is no source; declare it in sources.py, and apply the project again"),
        (
            {"key": "till"},
            "joined by 'till', but rows of 'buying' are known by 'shop', the key of their spine; join it by 'shop', or",
        ),
    ],
)
def test_a_label_that_cannot_be_joined_is_refused(otherwise, why):
    with pytest.raises(Rejected, match=why):
        Labels(RULE.model_copy(update=otherwise), shop(), "buying")
