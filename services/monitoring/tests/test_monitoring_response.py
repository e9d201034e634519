"""What follows from alerts."""

from mainstem.monitoring.domain.response import Standing, answer
from mainstem.monitoring.domain.verdict import Alert
from mainstem.project import Monitoring

POLICY = Monitoring(
    window=10,
    false_alarms_per_100_windows=1,
    cooldown=100,
    min_labelled=1,
    responses={"performance_loss": "retrain", "feature_drift": "retrain", "prediction_drift": "investigate"},
)


def alert(kind):
    return Alert(kind, 9.0, 5.0, 0.1, ())


def outcomes(*kinds, standing=None, last=None, now=1_000, policy=POLICY):
    """What is answered, by kind: the outcome, and whether it is news."""
    answers = answer([alert(kind) for kind in kinds], standing or {}, policy, last, now)
    return {given.alert.kind: (given.outcome, given.standing is None) for given in answers}


def test_the_response_is_the_project_s():
    assert outcomes("prediction_drift", "performance_loss") == {
        "prediction_drift": ("recorded", True),
        "performance_loss": ("asked", True),
    }


def test_a_kind_the_project_does_not_name_is_recorded():
    policy = POLICY.model_copy(update={"responses": {}})
    assert outcomes("performance_loss", policy=policy) == {"performance_loss": ("recorded", True)}


def test_an_alert_that_is_open_is_no_news():
    assert outcomes("performance_loss", standing={"performance_loss": Standing("a", waits=False)}) == {}


def test_an_alert_within_the_cooldown_waits():
    assert outcomes("performance_loss", last=901) == {"performance_loss": ("cooling down", True)}
    assert outcomes("performance_loss", last=901, standing={"performance_loss": Standing("a", waits=True)}) == {}


def test_an_alert_that_waited_asks_when_the_cooldown_is_over():
    standing = {"performance_loss": Standing("a", waits=True)}
    assert outcomes("performance_loss", last=900, standing=standing) == {"performance_loss": ("asked", False)}


def test_two_alerts_of_one_verdict_ask_once():
    assert outcomes("feature_drift", "performance_loss") == {
        "feature_drift": ("asked", True),
        "performance_loss": ("cooling down", True),
    }
