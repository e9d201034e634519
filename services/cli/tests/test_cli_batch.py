"""`mainstem prediction batch` against a door that answers as serving does."""

import asyncio
import json
import re
import signal
import sys
import threading
from collections import Counter
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mainstem.inference import Answer, Signature, Tensor, rest
from mainstem.project import load_folder
from mainstem.storage import Artifacts
from mainstem.testkit.waiting import until

FLIGHTS = load_folder(Path(__file__).parents[3] / "projects" / "flights")
MAINSTEM = Path(sys.executable).parent / "mainstem"
DELAY = FLIGHTS.feature_sets["flight_delay"].compiled
GUSTS = "sha256:" + "d" * 64
SPOOL = "5f" * 8
AT = "2013-05-01T00:00:00.000000Z"
NAN = float("nan")


@dataclass
class Door:
    """The score of a row is the sum of what is known of it; what was asked is kept."""

    features: list = field(default_factory=lambda: ["wind", "rain"])
    definition: str = GUSTS
    properties: dict = field(default_factory=dict)
    #: What the next calls get instead of an answer: a status, 0 for a connection that ends, None for nothing at all.
    faults: list = field(default_factory=list)
    #: Answers wait until a fault was told, when they do.
    waits: bool = False
    faulted: threading.Event = field(default_factory=threading.Event)
    closed: threading.Event = field(default_factory=threading.Event)
    retry_after: str | None = None
    spooled: list = field(default_factory=list)
    version: int = 1
    records: bool = True
    said: dict = field(default_factory=dict)
    calls: list = field(default_factory=list)
    #: By the first row of a call whom it was about.
    entities: dict = field(default_factory=dict)
    rows: int = 0
    gone: Counter = field(default_factory=Counter)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def metadata(self, path):
        definition = f"of version {path.rpartition('/')[2]}" if path.endswith("/versions/2") else self.definition
        known = {"features": json.dumps(self.features), "feature_set": "gusts", "feature_definition": definition}
        return {"name": "storm", "properties": known | self.properties}

    def answer(self, body, json_length):
        assert not self.waits or self.faulted.wait(10)
        request = rest.Reader(Signature((), ())).read(body, json_length)
        with self.lock:
            first, rows = self.rows, len(request.inputs[0].values)
            self.rows += rows
            self.calls.append((request.id, {tensor.name: tensor.values for tensor in request.inputs}))
            self.entities[request.id.partition("/")[2]] = request.parameters.get("entity")
        numbers = [tensor.values.reshape(rows, -1) for tensor in request.inputs if tensor.datatype != "BYTES"]
        scores = np.nansum(np.hstack([np.zeros((rows, 1)), *numbers]), axis=1)
        recorded = {"prediction_id": f"{SPOOL}{first:016x}"} if self.records else {}
        outputs = [(Tensor("probabilities", np.column_stack([1 - scores, scores])), request.raw)]
        return rest.write(Answer("storm", str(self.version), request.id, outputs, recorded | self.said))

    def tensors(self):
        """Return what was asked, in the order of the rows."""
        return [tensors for _, tensors in sorted(self.calls, key=lambda call: int(call[0].partition("/")[2]))]


@pytest.fixture
def door(monkeypatch):
    found = Door()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            if self.path == "/metrics":
                waiting = found.spooled.pop(0) if found.spooled else 0
                return self.give(200, f'mainstem_spool_bytes{{spool="5f"}} {waiting}\n'.encode())
            return self.give(200, json.dumps(found.metadata(self.path)).encode())

        def do_POST(self):
            body = self.rfile.read(int(self.headers["content-length"]))
            with found.lock:
                fault = found.faults.pop(0) if found.faults else 200
            found.gone[fault] += 1
            if fault == 200:
                content, headers = found.answer(body, self.headers[rest.JSON_LENGTH])
                return self.give(200, content, headers)
            if fault:
                told = {} if found.retry_after is None else {"retry-after": found.retry_after}
                self.give(fault, b'{"error":"not now"}', told)
                return found.faulted.set()
            if fault is None:
                found.closed.wait()
            self.close_connection = True
            return None

        def give(self, status, content, headers=None):
            self.send_response(status)
            for name, value in {**(headers or {}), "content-length": len(content)}.items():
                self.send_header(name, str(value))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_):
            """Keep the tests quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    monkeypatch.setenv("MAINSTEM_SERVING_URL", f"http://127.0.0.1:{server.server_port}")
    yield found
    found.closed.set()
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def run(services, door, tmp_path):
    """Score a file, or a table as one, and return how the command ended."""

    def run(rows, *options):
        if isinstance(rows, pa.Table):
            pq.write_table(rows, tmp_path / "rows.parquet")
            rows = tmp_path / "rows.parquet"
        where = ("--file", rows) if isinstance(rows, Path) else ("--dataset", rows)
        return services.run("prediction", "batch", "storm", *where, "--out", tmp_path / "out.parquet", *options)

    return run


@pytest.fixture
def scored(run, tmp_path):
    """Score, and return the file that was written and what was told."""

    def scored(rows, *options):
        done = run(rows, *options, "-o", "json")
        assert done.exit_code == 0, done.stderr
        return pq.read_table(tmp_path / "out.parquet"), json.loads(done.stdout)[0]

    return scored


def winds(count, **columns):
    return pa.table({**columns, "wind": np.arange(count, dtype=float), "rain": np.zeros(count)})


def test_every_row_is_answered_beside_what_is_no_feature_and_by_its_own_event(scored):
    table, told = scored(winds(600, station=[f"s{row}" for row in range(600)]))
    assert table.column_names == ["station", "score", "version", "prediction_id"]
    assert table["station"].to_pylist() == [f"s{row}" for row in range(600)]
    assert table["score"].to_pylist() == list(range(600))
    assert {name[:16] for name in table["prediction_id"].to_pylist()} == {SPOOL}
    assert sorted(int(name[16:], 16) for name in table["prediction_id"].to_pylist()) == list(range(600))
    assert (told["rows"], told["calls"], told["versions"], told["unrecorded"]) == (600, 3, {"1": 600}, 0)


def test_people_are_told_which_version_answered_how_many(run):
    assert "versions            1: 3\n" in run(winds(3)).stdout


def test_a_call_has_256_rows_and_is_named_after_the_batch_and_its_first_row(scored, door):
    table, told = scored(winds(600))
    assert sorted(name for name, _ in door.calls) == [f"{told['batch']}/{first}" for first in (1, 257, 513)]
    assert [len(tensors["features"]) for tensors in door.tensors()] == [256, 256, 88]
    assert table.schema.metadata[b"mainstem.batch"].decode() == told["batch"]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("rows.csv", "wind,station,rain\n1.5,007,\n,NA,2\n"),
        ("rows.ndjson", '{"wind": 1.5, "station": "007"}\n{"rain": 2, "station": "NA"}\n'),
    ],
)
def test_a_text_file_keeps_its_texts_and_what_is_left_out_is_unknown(scored, door, tmp_path, name, text):
    (tmp_path / name).write_text(text)
    table, _ = scored(tmp_path / name)
    assert table.select(["station", "score"]).to_pylist() == [
        {"station": "007", "score": 1.5}, {"station": "NA", "score": 2.0}
    ]  # fmt: skip
    assert np.array_equal(door.tensors()[0]["features"], [[1.5, NAN], [NAN, 2.0]], equal_nan=True)


def test_a_dataset_is_scored_by_its_own_names_for_features(scored, services, door, tmp_path, monkeypatch):
    monkeypatch.setenv("MAINSTEM_ARTIFACTS", str(tmp_path / "artifacts"))
    pq.write_table(pa.table({"id": ["a", "b"], "x.rain": [None, 2.0], "x.wind": [1, 1], "y": [0, 1]}), tmp_path / "d")
    stored = Artifacts(tmp_path / "artifacts").put((tmp_path / "d").read_bytes())
    found = {"dataset": {"dataset": "sha256:d", "parquet": stored}, "manifest": {"feature_set": {"id": GUSTS}}}
    services.on("GET /v1/datasets/d", found)
    table, told = scored("d")
    assert table.column_names == ["id", "y", "score", "version", "prediction_id"]
    assert np.array_equal(door.tensors()[0]["features"], [[1.0, NAN], [1.0, 2.0]], equal_nan=True)
    assert told["source"] == "sha256:d"


@pytest.fixture
def flights(services, door):
    services.on("GET /v1/projects", {"projects": [{"project": "flights"}]})
    services.on("GET /v1/projects/flights", {"definition": FLIGHTS.model_dump(mode="json")})
    door.features, door.definition = list(DELAY.names), DELAY.id
    door.said = {"features_at": AT, "features_applied": 7, "age_s.flight_departed": 1.5}


def test_rows_without_features_are_looked_up_by_the_columns_of_the_spine(scored, door, flights):
    rows = {"flight": ["f1", "f2"], "origin": ["EWR", "JFK"], "dep_delay": [4.0, 5.0]}
    table, told = scored(pa.table(rows))
    (asked,) = door.tensors()
    assert {name: values.tolist() for name, values in asked.items()} == {
        "origin": [b"EWR", b"JFK"], "dep_delay": [4, 5]
    }  # fmt: skip
    assert asked["dep_delay"].dtype == np.int64
    assert table.select(["flight", "score", "features_at", "features_applied", "stale"]).to_pylist() == [
        {"flight": flight, "score": score, "features_at": AT, "features_applied": 7, "stale": None}
        for flight, score in (("f1", 4.0), ("f2", 5.0))
    ]
    assert told["by"] == "entity"


def test_what_is_not_said_of_an_entity_is_told(run, door, flights):
    said = run(pa.table({"origin": ["EWR"]})).stderr.splitlines()[0]
    assert said.partition("1 rows by entity, unknown: ")[2].split(", ") == [
        name for name in DELAY.streams[DELAY.spine] if name != "origin"
    ]


def test_rows_of_which_the_same_is_known_are_one_call(scored, door, flights):
    table, _ = scored(pa.table({"origin": ["EWR", None, "JFK", None], "dep_delay": [1, 2, 3, None]}))
    asked = [{name: values.tolist() for name, values in tensors.items()} for tensors in door.tensors()]
    assert asked[:2] == [{"origin": [b"EWR", b"JFK"], "dep_delay": [1, 3]}, {"dep_delay": [2]}]
    assert [len(cells) for cells in asked[2].values()] == [1]
    assert np.isnan(next(iter(asked[2].values()))).all()
    assert table["score"].to_pylist() == [1.0, 2.0, 3.0, 0.0]


def test_an_instant_is_sent_as_text_and_needs_a_zone(scored, run, door, flights):
    at = pa.array([1_367_366_400_000_000], pa.timestamp("us"))
    assert "instants without a zone" in run(pa.table({"sched_dep": at})).stderr
    scored(pa.table({"sched_dep": at.cast(pa.timestamp("us", "America/New_York"))}))
    assert door.tensors()[0]["sched_dep"].tolist() == [AT.encode()]


@pytest.mark.parametrize(
    ("rows", "why"),
    [
        ({"origin": ["EWR", "XXX"]}, "row 2 of .*, column 'origin': 'XXX' is none of its values"),
        ({"dep_delay": [1.5]}, "row 1 of .*, column 'dep_delay': 1.5 is not a whole number"),
        ({"port": ["EWR"]}, "has no column .*, nor one that describes an entity: "),
        ({"wind": [1.0]}, "has no column .* which the model reads, but wind; add what is missing"),
    ],
)
def test_what_describes_no_entity_is_refused_before_anything_is_asked(run, door, flights, rows, why):
    done = run(pa.table(rows))
    assert (done.exit_code, door.calls) == (1, [])
    assert re.search(why, done.stderr)


@pytest.mark.parametrize(
    ("columns", "why"),
    [
        ({"wind": [0.0, float("inf")], "rain": [0.0, 0.0]}, "row 2 of .* has an infinity for 'wind'"),
        ({"wind": ["much"], "rain": [0.0]}, "column 'wind' of .* holds no numbers"),
        ({"wind": [1.0], "rain": [0.0], "score": [1.0]}, "column 'score' of the input has the name of one of"),
    ],
)
def test_rows_that_cannot_be_answered_are_refused_before_anything_is_asked(run, door, columns, why):
    done = run(pa.table(columns))
    assert (done.exit_code, door.calls) == (1, [])
    assert re.search(why, done.stderr)


def test_rows_of_another_definition_are_refused(run, door):
    done = run(winds(1).replace_schema_metadata({"mainstem.definition": "sha256:other"}))
    assert (done.exit_code, door.calls) == (1, [])
    assert f"are of sha256:other, storm reads gusts {GUSTS}" in done.stderr


def test_rows_about_an_entity_are_calls_about_it(scored, door):
    table, _ = scored(winds(5, tail=["a", "b", "a", None, "b"]), "--entity", "tail")
    assert door.entities == {"1": "a", "2": "b", "4": None}
    assert [tensors["features"][:, 0].tolist() for tensors in door.tensors()] == [[0, 2], [1, 4], [3]]
    assert table["score"].to_pylist() == list(range(5))


@pytest.mark.parametrize(
    ("column", "why"), [("gone", "has no column 'gone'; it has tail, wind, rain"), ("tail", "'tail' of .* no keys")]
)
def test_whom_a_row_is_about_stands_in_a_column(run, door, column, why):
    done = run(winds(1, tail=[["a"]]), "--entity", column)
    assert (done.exit_code, door.calls) == (1, [])
    assert re.search(why, done.stderr)


def test_what_records_nothing_is_no_door_for_a_batch(run, door):
    door.properties = {"unmanaged": "true"}
    assert "nothing is recorded of what" in run(winds(1)).stderr


def test_a_call_that_is_to_come_later_does(scored, door):
    door.faults, door.retry_after = [503, 503, 429], "0"
    table, told = scored(winds(600))
    assert table["score"].to_pylist() == list(range(600))
    assert (told["again"], told["unsure"], door.rows) == (3, 0, 600)


def test_a_call_that_may_have_been_answered_is_asked_again_and_counted(scored, door):
    door.faults = [0, 504]
    table, told = scored(winds(600))
    assert table["score"].to_pylist() == list(range(600))
    assert (told["again"], told["unsure"]) == (2, 2)


def test_a_call_that_is_refused_ends_the_batch_by_its_rows(run, door, tmp_path):
    door.faults = [400]
    done = run(winds(600))
    assert done.exit_code == 1
    assert "rows.parquet: not now" in done.stderr
    assert "rows were answered, and stand in the log; no file" in done.stderr
    assert sorted(file.name for file in tmp_path.glob("*parquet*")) == ["rows.parquet"]


def test_calls_under_way_behind_a_fault_are_answered_and_counted(run, door):
    door.faults, door.waits = [400], True
    done = run(winds(3000))
    assert (done.exit_code, len(door.calls) >= 3, door.rows < 3000) == (1, True, True)
    assert f": {door.rows} rows were answered, and stand in the log; no file" in done.stderr


def test_calls_that_are_given_up_are_told_for_their_rows_may_stand_in_the_log(run, door, monkeypatch):
    monkeypatch.setattr("mainstem.cli.batch.scoring._GRACE_S", 0.0)
    door.faults = [None, 400, None, None]
    said = ": 0 rows were answered, and stand in the log; those of up to 3 calls of which no answer came may, too; "
    assert said in run(winds(3000)).stderr


def test_rows_without_a_record_do_not_stand_in_the_log(run, door):
    door.faults, door.waits, door.records = [400], True, False
    said = run(winds(600)).stderr
    assert f": 0 rows were answered, and stand in the log; {door.rows} were answered without a record; no file" in said


def test_a_door_that_stays_away_is_told_with_the_rows(run, door, monkeypatch):
    monkeypatch.setattr("mainstem.cli.batch.door.PATIENCE_S", 0.0)
    door.faults = [503] * 20
    done = run(winds(1))
    assert done.exit_code == 1
    assert "rows 1 to 1 of" in done.stderr
    assert "not now; see `mainstem status`" in done.stderr


async def test_a_batch_that_is_interrupted_says_so_and_leaves_no_file(door, tmp_path):
    door.faults = [503] * 10_000
    pq.write_table(winds(3), tmp_path / "rows.parquet")
    said = ("prediction", "batch", "storm", "--file", "rows.parquet", "--out", "out.parquet")
    batch = await asyncio.create_subprocess_exec(MAINSTEM, *said, cwd=tmp_path, stderr=asyncio.subprocess.PIPE)
    await until(lambda: door.gone[503] > 3)
    assert (tmp_path / "out.parquet.partial").exists()
    batch.send_signal(signal.SIGINT)
    async with asyncio.timeout(10):
        _, complaint = await batch.communicate()
    assert batch.returncode == 130
    assert ": 0 rows were answered, and stand in the log; " in complaint.decode()
    assert [file.name for file in tmp_path.glob("*parquet*")] == ["rows.parquet"]


def test_a_version_that_takes_over_must_read_the_same_features(run, door):
    door.version = 2
    done = run(winds(1))
    assert (done.exit_code, door.rows) == (1, 1)
    assert "version 2 answers now, and reads gusts of version 2" in done.stderr
    assert ": 1 rows were answered, and stand in the log" in done.stderr


def test_a_version_can_be_named(scored, door):
    door.properties = {"feature_definition": GUSTS}
    door.version = 2
    _, told = scored(winds(3), "--version", "2")
    assert told["versions"] == {"2": 3}


def test_answers_without_a_record_are_counted(scored, door):
    door.records = False
    table, told = scored(winds(3))
    assert (table["prediction_id"].to_pylist(), told["unrecorded"]) == ([None] * 3, 3)


def test_the_batch_waits_while_the_spools_are_full(scored, door):
    door.spooled = [1 << 30, 1 << 29, 1]
    table, _ = scored(winds(3))
    assert (len(table), door.spooled) == (3, [])


def test_a_log_that_takes_nothing_ends_the_wait(run, door, monkeypatch):
    monkeypatch.setattr("mainstem.cli.batch.door.PATIENCE_S", 0.0)
    door.spooled = [1 << 30] * 100
    done = run(winds(3))
    assert (done.exit_code, door.calls) == (1, [])
    assert "1074 MB of answers wait for the log" in done.stderr


def test_a_file_that_is_there_is_replaced_when_that_is_wished(run, tmp_path):
    assert run(winds(1)).exit_code == 0
    refused = run(winds(2))
    assert (refused.exit_code, pq.read_table(tmp_path / "out.parquet").num_rows) == (1, 1)
    assert "replace it with --overwrite" in refused.stderr
    assert run(winds(2), "--overwrite").exit_code == 0
    assert pq.read_table(tmp_path / "out.parquet").num_rows == 2


def test_no_rows_are_a_file_without_rows(scored, door):
    table, told = scored(winds(0))
    assert (table.num_rows, told["calls"], door.calls) == (0, 0, [])


@pytest.mark.parametrize("options", [(), ("--file", __file__, "--dataset", "d")])
def test_rows_come_from_a_file_or_from_a_dataset(services, tmp_path, options):
    assert services.run("prediction", "batch", "storm", "--out", tmp_path / "o", *options).exit_code == 2


@pytest.mark.parametrize(
    ("name", "text", "why"),
    [
        ("rows.txt", "wind\n1\n", "is none of .parquet, .csv, .ndjson, .jsonl"),
        ("rows.parquet", "wind", "cannot be read"),
        ("rows.csv", "wind,wind\n1,2\n", "multiple columns named wind"),
        ("rows.csv", "wind,rain\n1,2\nmuch,2\n", "rows.csv cannot be read"),
    ],
)
def test_a_file_that_cannot_be_read_is_named(run, door, tmp_path, name, text, why):
    (tmp_path / name).write_text(text)
    done = run(tmp_path / name)
    assert (done.exit_code, door.calls) == (1, [])
    assert why in done.stderr
