import pytest

from mainstem.training.domain import PLAN, Ranges, Span, Step, StepResult, code_digest, digest, next_step, outputs


def done(step, inputs=None, **written):
    return StepResult(step, inputs or {}, written, code="sha256:c", environment="sha256:e")


RUN = (
    done(Step.SNAPSHOT, {"definition": "sha256:d"}, dataset="sha256:1"),
    done(Step.FIT, {"dataset": "sha256:1"}, model="sha256:2"),
    done(Step.EVALUATE, {"dataset": "sha256:1", "model": "sha256:2"}, profile="sha256:3"),
    done(Step.EXPORT, {"model": "sha256:2"}, onnx="sha256:4"),
)


@pytest.mark.parametrize(("completed", "step"), list(enumerate((*PLAN, None))))
def test_a_run_goes_on_after_its_last_completed_step(completed, step):
    assert next_step(RUN[:completed]) == step


@pytest.mark.parametrize("completed", [RUN[1:], RUN[:1] * 2, RUN[::-1], (*RUN, RUN[0])])
def test_steps_out_of_order_cannot_be_continued(completed):
    with pytest.raises(ValueError, match="not the beginning"):
        next_step(completed)


def test_a_step_that_read_something_else_cannot_be_continued():
    with pytest.raises(ValueError, match="step fit read another dataset"):
        next_step([RUN[0], done(Step.FIT, {"dataset": "sha256:9"})])


def test_a_run_leaves_what_its_steps_wrote():
    assert outputs(RUN) == {"dataset": "sha256:1", "model": "sha256:2", "profile": "sha256:3", "onnx": "sha256:4"}


def test_the_plan_is_snapshot_fit_evaluate_export():
    assert PLAN == ("snapshot", "fit", "evaluate", "export")


def test_the_held_out_rows_come_last_and_meet_the_others():
    assert Ranges.at(1000, 400, 100) == Ranges(fit=Span(600, 900), evaluation=Span(900, 1000))


@pytest.mark.parametrize(("instant", "inside"), [(599, False), (600, True), (899, True), (900, False)])
def test_a_range_holds_its_start_but_not_its_end(instant, inside):
    assert Span(600, 900).holds(instant) == inside


def test_a_digest_does_not_depend_on_the_order_of_keys():
    assert digest({"a": 1, "b": [1.5, None]}) == digest({"b": [1.5, None], "a": 1})


def test_a_digest_is_the_sha256_of_the_canonical_text():
    assert digest({}) == "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"


def test_a_digest_of_what_json_does_not_have_is_refused():
    with pytest.raises(ValueError, match="not JSON compliant"):
        digest(float("nan"))


@pytest.mark.parametrize("other", [{"engine": b"y"}, {"domain": b"x"}, {"engine": b"x", "domain": b"x"}, {}])
def test_any_change_of_code_changes_its_digest(other):
    assert code_digest({"engine": b"x"}) != code_digest(other)
