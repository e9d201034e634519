"""What was known of the version's health when it answered: the last judged window, and the alerts that were open."""

from mainstem.cli.evidence.archive import Chronicle, Found
from mainstem.cli.evidence.story import Story
from mainstem.events.fact import Fact
from mainstem.events.monitoring import (
    AlertClosed,
    AlertOpened,
    FeatureAlertOpened,
    FeatureSetAlertClosed,
    FeatureSetAlertOpened,
    WindowJudged,
)
from mainstem.events.serving import Predicted

Opened = Found[AlertOpened | FeatureAlertOpened | FeatureSetAlertOpened]


def tell_state(story: Story, chronicle: Chronicle, answer: Found[Predicted]) -> None:
    """State drift and alerts as they were recorded up to the answer; what came later was not known."""
    _tell_drift(story, chronicle, answer)
    _tell_alerts(story, chronicle, answer)


def _tell_drift(story: Story, chronicle: Chronicle, answer: Found[Predicted]) -> None:
    windows = chronicle.of(WindowJudged, model=answer.fact.model, version=answer.fact.version)
    known = [each for each in windows if _known(each, answer)]
    if not known:
        waits = f"the first of {len(windows)} was" if windows else "none was in all"
        missing = f"no window of version {answer.fact.version} had been judged when it answered; {waits} judged later"
        story.lack(missing if windows else missing.partition(";")[0], "drift")
        return
    story.link("window", known[-1])
    says = ("version", "start", "end", "predictions", "labelled", "figures", "ce_recordedtime")
    story.say("drift", known[-1], *says, windows_before=len(known) - 1)


def _tell_alerts(story: Story, chronicle: Chronicle, answer: Found[Predicted]) -> None:
    fact = answer.fact
    opened: list[Opened] = [
        *chronicle.of(AlertOpened, model=fact.model),
        *chronicle.of(FeatureAlertOpened, model=fact.model),
        *chronicle.of(FeatureSetAlertOpened, definition=fact.feature_definition),
    ]
    closings: list[Found[AlertClosed | FeatureSetAlertClosed]] = [
        *chronicle.of(AlertClosed),
        *chronicle.of(FeatureSetAlertClosed),
    ]
    closed = {each.fact.alert for each in closings if _known(each, answer)}
    known = [each for each in opened if _known(each, answer)]
    for each in known:
        if each.fact.alert not in closed:
            story.link(f"alert {each.fact.alert}", each)
            says = ("alert", "kind", "response", "outcome", "ce_recordedtime")
            figures = ("version", "evidence", "threshold", "window_end", "about")
            story.say("alerts", each, *says, *(name for name in figures if hasattr(each.fact, name)))
    before = f"{len(known)} had been opened before, and were closed" if known else "none had been opened before"
    story.lack(f"none was open: {before}", "alerts")


def _known(found: Found[Fact], answer: Found[Predicted]) -> bool:
    return found.envelope.recorded_us <= answer.envelope.recorded_us
