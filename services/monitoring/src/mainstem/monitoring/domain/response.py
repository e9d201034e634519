"""What follows from alerts: which are news, and which of them ask for a retraining."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from mainstem.monitoring.domain.verdict import Alert, may_retrain
from mainstem.project.monitoring import AlertKind, Monitoring, Response

Outcome = Literal["asked", "cooling down", "recorded"]


@dataclass(frozen=True, slots=True)
class Standing:
    """An alert that is open; `waits` tells that its retraining was put off by the cooldown."""

    alert: str
    waits: bool


@dataclass(frozen=True, slots=True)
class Answer:
    """What becomes of an alert of a verdict; `standing` is the alert that was open already, None for news."""

    alert: Alert
    standing: Standing | None
    response: Response
    outcome: Outcome


def answer(
    found: Sequence[Alert],
    standing: Mapping[AlertKind, Standing],
    monitoring: Monitoring,
    last_request_us: int | None,
    now_us: int,
) -> list[Answer]:
    """Decide on the alerts of a verdict, in their order.

    One that is open already is no news, unless it waited for the cooldown and that is over. No two retrainings are
    asked for within the cooldown, whichever kinds of alert ask.
    """
    answers = []
    for alert in found:
        before = standing.get(alert.kind)
        response = monitoring.response(alert.kind) if before is None else "retrain"
        outcome: Outcome = "recorded"
        if response == "retrain":
            outcome = "asked" if may_retrain(last_request_us, now_us, monitoring.cooldown) else "cooling down"
        if before is None or (before.waits and outcome == "asked"):
            answers.append(Answer(alert, before, response, outcome))
            last_request_us = now_us if outcome == "asked" else last_request_us
    return answers
