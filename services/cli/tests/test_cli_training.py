"""Training runs on the command line."""

import json

RUN = {
    "run": "abcdef0123456789", "model": "arrival_delay", "project": "flights", "cut": "2013-05-01T00:00:00.000000Z",
    "cause": "request", "requested_by": "builder", "status": "completed", "reason": None, "waiting": None,
}  # fmt: skip
STEP = {
    "run": RUN["run"], "step": "snapshot", "inputs": {}, "outputs": {"dataset": "sha256:d", "table": "sha256:t"},
    "figures": {"rows": 7, "positions": {"a": 1}}, "code": "sha256:c", "environment": "sha256:e",
}  # fmt: skip


def test_a_run_is_asked_for_with_a_command_id_of_its_own(services):
    services.on("POST /v1/runs", {"run": RUN["run"], "cut": RUN["cut"]}, 202)
    for _ in "ab":
        done = services.run("training", "start", "arrival_delay", "--at", RUN["cut"], "-o", "ndjson")
        assert json.loads(done.stdout) == {"run": RUN["run"], "cut": RUN["cut"]}
    (_, first), (_, second) = services.asked
    assert first["command_id"] != second["command_id"]
    assert (first["model"], first["at"]) == ("arrival_delay", RUN["cut"])


def test_whoever_waits_for_a_run_is_told_its_steps_and_its_version(services):
    version = {"version": 3, "stage": "candidate", "auc": 0.91, "run": RUN["run"], "gates": {}}
    services.on("POST /v1/runs", {"run": RUN["run"], "cut": RUN["cut"]}, 202)
    services.on(f"GET /v1/runs/{RUN['run']}", {**RUN, "steps": [STEP]})
    services.on("GET /v1/models/arrival_delay", {"versions": [{**version, "run": "another"}, version]})
    done = services.run("training", "start", "arrival_delay", "--wait", "-o", "ndjson")
    assert "snapshot done" in done.stderr
    told = {"run": RUN["run"], "cut": RUN["cut"], "version": 3, "stage": "candidate", "auc": 0.91}
    assert json.loads(done.stdout) == told


def test_whoever_waits_for_a_run_that_fails_is_told_why(services):
    services.on("POST /v1/runs", {"run": RUN["run"], "cut": RUN["cut"]}, 202)
    services.on(f"GET /v1/runs/{RUN['run']}", {**RUN, "status": "failed", "reason": "no rows", "steps": []})
    done = services.run("training", "start", "arrival_delay", "--wait")
    assert (done.exit_code, done.stdout) == (1, "")
    assert f"run {RUN['run']} failed: no rows" in done.stderr


def test_runs_are_listed(services):
    services.on("GET /v1/runs", {"runs": [RUN]})
    assert json.loads(services.run("training", "list", "-o", "json").stdout) == [RUN]
    assert "arrival_delay" in services.run("training", "list").stdout


def test_a_run_is_shown_with_its_steps(services):
    services.on("GET /v1/runs/abc", {**RUN, "steps": [STEP]})
    told = services.run("training", "show", "abc").stdout
    assert "status        completed" in told
    assert told.splitlines()[-1].split() == ["snapshot", "dataset,", "table", '"rows":', "7"]


def test_json_of_a_run_holds_everything(services):
    services.on("GET /v1/runs/abc", {**RUN, "steps": [STEP]})
    assert json.loads(services.run("training", "show", "abc", "-o", "json").stdout) == [{**RUN, "steps": [STEP]}]


def test_a_run_without_steps_yet_is_shown(services):
    services.on("GET /v1/runs/abc", {**RUN, "steps": []})
    assert services.run("training", "show", "abc").exit_code == 0
