"""What turned out to be true: the record that brought the label, when it became known, or why there is none."""

from mainstem.cli.evidence.archive import Applied, Archive, Found, events
from mainstem.cli.evidence.story import Story
from mainstem.cli.expressions import duration
from mainstem.cli.labels import worded
from mainstem.events.data import RecordAccepted
from mainstem.events.instants import render
from mainstem.events.serving import Predicted
from mainstem.project import Label


async def tell_outcome(
    archive: Archive,
    story: Story,
    answer: Found[Predicted],
    spine: Found[RecordAccepted] | None,
    applied: Applied | None,
) -> None:
    """State the label of an answer, by the rule of its model."""
    definition = applied.project.models.get(answer.fact.model) if applied else None
    if definition is None:
        story.lack("without the project's definition it is not known how the model is labelled", "outcome")
        return
    if spine is None:
        story.lack("no accepted record asked the question, so no label is joined with the answer", "outcome")
        return
    rule = definition.label
    key = spine.fact.record.get(rule.key)
    found = [
        each
        for each in events(RecordAccepted, await archive.keyed(rule.source, rule.key, key))
        if each.fact.record.get(rule.key) == key
    ]
    deciding = [each for each in found if each.fact.record.get(rule.column) is not None]
    deciding.sort(key=lambda each: (each.envelope.recorded_us, each.entry.partition, each.entry.offset))
    place = rule.last_in_time([each.envelope.recorded_us for each in deciding], spine.envelope.time_us)
    if place is None:
        story.lack(_why(rule, key, found, deciding), "outcome")
        return
    label = deciding[place]
    story.link("label", label)
    said = ("ce_id", "ce_recordedtime", "contract", f"record/{rule.key}", f"record/{rule.column}")
    truth = label.fact.record[rule.column] > rule.above
    story.say("outcome", label, *said, rule=worded(rule), above=rule.above, truth=truth)


def _why(rule: Label, key: object, found: list[Found[RecordAccepted]], deciding: list[Found[RecordAccepted]]) -> str:
    if not found:
        return f"no record of {rule.source} with {rule.key} = {key!r} has arrived"
    if not deciding:
        return f"{len(found)} records of {rule.source} with {rule.key} = {key!r} came, none with a {rule.column}"
    last = render(deciding[-1].envelope.recorded_us)
    return f"the record of {rule.source} with {rule.key} = {key!r} did not come within {duration(rule.wait)}: at {last}"
