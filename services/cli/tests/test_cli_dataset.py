"""Datasets on the command line."""

import json

import pytest

ADDRESS = f"sha256:{'ab' * 32}"
CUT = "2013-05-01T00:00:00.000000Z"
REQUEST = "0123456789abcdef"
BUILT = {
    "dataset": ADDRESS, "parquet": "sha256:p", "request": REQUEST, "model": "arrival_delay", "project": "flights",
    "definition": "sha256:d", "feature_set": "sha256:f", "feature_set_label": "flight_delay.v2", "cut": CUT,
    "rows": 70, "held_out": 20, "unlabelled": 3, "content": "sha256:c", "requested_by": "builder",
}  # fmt: skip
ASKED = {
    "request": REQUEST, "model": "arrival_delay", "project": "flights", "definition": "sha256:d", "cut": CUT,
    "requested_by": "builder", "status": "requested", "dataset": None, "reason": None, "waiting": None,
    "read": None, "of": None,
}  # fmt: skip
MANIFEST = {
    "format": "mainstem.dataset.v1", "project": "flights", "definition": "sha256:d", "model": "arrival_delay",
    "feature_set": {"id": "sha256:f", "label": "flight_delay.v2"},
    "label": {"source": "flight_arrived", "key": "flight", "column": "arr_delay", "above": 15.0, "wait": 86400000000},
    "cut": CUT, "fit": ["2013-01-01T00:00:00Z", "2013-04-01T00:00:00Z"], "evaluation": ["2013-04-01T00:00:00Z", CUT],
    "rows": 70, "held_out": 20, "unlabelled": 3, "content": "sha256:c", "code": "sha256:k",
    "positions": {
        "cluster": "a-cluster",
        "topics": {
            "evt.feature.flight_delay.v2": {
                "id": "11111111-1111-4111-8111-111111111111",
                "partitions": {"10": {"until": 9, "records": 8}, "2": {"until": 7, "records": 6}},
            }
        },
    },
}  # fmt: skip
HOLDS = {"dataset": ADDRESS, "verdict": "holds", "found": "the rows in sha256:p hash to sha256:c"}


class InTurn(dict):
    """Answers a request with the next of several answers, at last with the last."""

    def __getitem__(self, request):
        answers = super().__getitem__(request)
        return answers.pop(0) if len(answers) > 1 else answers[0]


def shown(services, check=HOLDS, manifest=MANIFEST):
    services.on("GET /v1/datasets/ab", {"dataset": BUILT, "request": None, "manifest": manifest})
    services.on(f"GET /v1/datasets/{ADDRESS}/check", check)
    return services


def test_a_dataset_is_asked_for_with_a_command_id_of_its_own(services):
    services.on("POST /v1/datasets", {"request": REQUEST, "cut": CUT}, 202)
    for _ in "ab":
        done = services.run("dataset", "build", "arrival_delay", "--at", CUT, "-o", "ndjson")
        assert json.loads(done.stdout) == {"request": REQUEST, "cut": CUT}
        assert done.stderr == "asked for; follow it with `mainstem dataset show 01234567`\n"
    (_, first), (_, second) = services.asked
    assert first["command_id"] != second["command_id"]
    assert (first["model"], first["at"]) == ("arrival_delay", CUT)


def test_whoever_waits_is_shown_how_far_it_is_and_then_the_dataset(services):
    services.answers = InTurn({
        "POST /v1/datasets": [(202, {"request": REQUEST, "cut": CUT})],
        f"GET /v1/datasets/{REQUEST}": [
            *((200, {"dataset": None, "manifest": None, "request": ASKED | now})
              for now in ({}, {"waiting": "nothing announced"}, {"read": 3, "of": 1000}, {"read": 900, "of": 1000})),
            (200, {"dataset": BUILT, "manifest": MANIFEST, "request": ASKED | {"status": "built", "dataset": ADDRESS}}),
        ],
    })  # fmt: skip
    done = services.run("dataset", "build", "arrival_delay", "--wait", "-o", "ndjson")
    built = json.loads(done.stdout)
    assert (built["dataset"], built["status"], built["rows"], built["parquet"]) == (ADDRESS, "built", 70, "sha256:p")
    assert done.stderr.startswith("waiting: nothing announced\n")
    assert "reading the log" in done.stderr
    assert "900/1000" in done.stderr


def test_whoever_waits_for_a_request_that_fails_is_told_which_and_why(services):
    failed = ASKED | {"status": "failed", "reason": "no rows"}
    services.on("POST /v1/datasets", {"request": REQUEST, "cut": CUT}, 202)
    services.on(f"GET /v1/datasets/{REQUEST}", {"dataset": None, "manifest": None, "request": failed})
    done = services.run("dataset", "build", "arrival_delay", "--wait")
    assert (done.exit_code, done.stdout) == (1, "")
    assert f"request {REQUEST} for a dataset of 'arrival_delay' failed: no rows" in done.stderr


def again(services, dataset):
    """Ask for the dataset again where this one comes out, and return the outcome."""
    asked = ASKED | {"status": "built", "dataset": dataset}
    services.on("POST /v1/datasets", {"request": REQUEST, "cut": CUT, "again": ADDRESS}, 202)
    built = {"dataset": BUILT | {"dataset": dataset}, "manifest": MANIFEST, "request": asked}
    services.on(f"GET /v1/datasets/{REQUEST}", built)
    return services.run("dataset", "build", "--again", "abab", "--wait")


def test_a_dataset_is_built_again_by_its_id_alone(services):
    assert again(services, ADDRESS).exit_code == 0
    (_, body), *_ = services.asked
    assert (body.pop("command_id") != "", body) == (True, {"again": "abab"})


def test_another_dataset_in_place_of_the_one_that_was_to_be_built_again_is_told(services):
    other = f"sha256:{'cd' * 32}"
    done = again(services, other)
    assert (done.exit_code, "cdcdcdcdcdcd" in done.stdout) == (1, True)
    assert f"{ADDRESS} was to be built again, and {other} came out: the code that builds datasets" in done.stderr


@pytest.mark.parametrize("arguments", [(), ("m", "--again", "abab"), ("--again", "abab", "--at", CUT)])
def test_what_to_build_is_said_once(services, arguments):
    done = services.run("dataset", "build", *arguments)
    assert (done.exit_code, services.asked) == (2, [])
    assert "name a model, with --at if you like, or a dataset" in done.stderr


@pytest.mark.parametrize(
    ("stands", "note"),
    [({"waiting": "nothing announced"}, "nothing announced"), ({"status": "failed", "reason": "no rows"}, "no rows")],
)
def test_datasets_are_listed_and_requests_without_one_after_them(services, stands, note):
    services.on("GET /v1/datasets", {"datasets": [BUILT], "requests": [ASKED | stands]})
    rows = json.loads(services.run("dataset", "list", "-o", "json").stdout)
    assert rows[0].keys() == rows[1].keys()
    assert [(row["dataset"], row["status"]) for row in rows] == [
        (ADDRESS, "built"), (None, stands.get("status", "requested"))
    ]  # fmt: skip
    table = services.run("dataset", "list").stdout.splitlines()
    assert "abababababab" in table[1]
    assert ADDRESS not in table[1]
    assert note in table[2]


def test_a_dataset_is_shown_with_its_manifest_its_positions_and_whether_it_holds(services):
    done = shown(services).run("dataset", "show", "ab")
    assert done.exit_code == 0
    lines = {line[:13].strip(): line[13:] for line in done.stdout.splitlines() if line}
    assert lines["dataset"] == ADDRESS
    assert lines["label"] == "flight_arrived.arr_delay > 15, by flight, waited for 1d"
    assert lines["rows"] == "70 (20 held out), and 3 without a label"
    assert lines["fit"] == "2013-01-01T00:00:00Z to 2013-04-01T00:00:00Z"
    assert lines["check"] == "holds: the rows in sha256:p hash to sha256:c"
    assert [line.split()[2:] for line in done.stdout.splitlines()[-2:]] == [["2", "7", "6"], ["10", "9", "8"]]


def test_json_of_a_dataset_holds_everything(services):
    check = {"verdict": HOLDS["verdict"], "found": HOLDS["found"]}
    told = json.loads(shown(services).run("dataset", "show", "ab", "-o", "json").stdout)
    assert told == [{**BUILT, "manifest": MANIFEST, "check": check}]


@pytest.mark.parametrize("output", ["table", "json"])
def test_a_dataset_that_is_gone_or_changed_is_told_with_what_to_do(services, output):
    gone = HOLDS | {"verdict": "missing", "found": f"no artifact {ADDRESS}"}
    done = shown(services, gone, manifest=None).run("dataset", "show", "ab", "-o", output)
    assert done.exit_code == 1
    assert f"no artifact {ADDRESS}" in done.stdout
    assert done.stderr == "build it again: mainstem dataset build --again abababababab\n"


def test_a_request_that_led_to_no_dataset_yet_is_shown(services):
    asked = ASKED | {"waiting": "nothing announced"}
    services.on("GET /v1/datasets/0123", {"dataset": None, "manifest": None, "request": asked})
    assert "nothing announced" in services.run("dataset", "show", "0123").stdout
    assert json.loads(services.run("dataset", "show", "0123", "-o", "json").stdout) == [asked]


def test_an_unknown_id_is_refused_with_the_sentence_of_the_service(services):
    detail = "no dataset and no request begins with 'zz'; list them with `mainstem dataset list`"
    services.on("GET /v1/datasets/zz", {"title": "unknown dataset", "detail": detail}, 404)
    done = services.run("dataset", "show", "zz")
    assert (done.exit_code, done.stderr) == (1, f"mainstem: unknown dataset: {detail}\n")
