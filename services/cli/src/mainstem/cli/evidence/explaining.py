"""From an answer back to what it came from, entry by entry, and forward to what became of it."""

from typing import Final

from mainstem.cli.evidence.archive import PREDICTIONS, Applied, Archive, Chronicle, Found, ReadSet, events
from mainstem.cli.evidence.coherence import contradictions
from mainstem.cli.evidence.inputs import Behind, described, same_bits
from mainstem.cli.evidence.making import tell_making
from mainstem.cli.evidence.outcome import tell_outcome
from mainstem.cli.evidence.state import tell_state
from mainstem.cli.evidence.story import Story, placed_at
from mainstem.events.data import RecordAccepted
from mainstem.events.errors import Rejected
from mainstem.events.features import RowComputed
from mainstem.events.registry import VersionRegistered
from mainstem.events.serving import Predicted
from mainstem.feature_engine import CompiledSet
from mainstem.ledger.checkpoint import Checkpoint

_LEAST_DIGITS: Final = 8

Answer = Found[Predicted]
Spine = Found[RecordAccepted]


async def explain(archive: Archive, prediction_id: str) -> Story:
    """Tell the story of an answer by its id or its first digits; raise Rejected when it is not found."""
    return await tell(archive, await find(archive, prediction_id))


async def find(archive: Archive, prediction_id: str) -> Answer:
    """Return the answer with an id, or with one that begins so; raise Rejected unless there is exactly one."""
    digits = prediction_id.lower()
    if len(digits) < _LEAST_DIGITS or not set(digits) <= set("0123456789abcdef"):
        raise Rejected(
            f"{prediction_id!r} is no prediction id; give at least {_LEAST_DIGITS} hexadecimal digits of one"
        )
    first: dict[str, Answer] = {}
    for found in events(Predicted, await archive.with_id_prefix(digits, PREDICTIONS)):
        first.setdefault(found.envelope.id, found)
    if len(first) != 1:
        ids = ", ".join(list(first)[:5]) or "none"
        raise Rejected(f"{len(first)} predictions begin with {digits}: {ids}; give the whole id of an archived one")
    return next(iter(first.values()))


async def tell(archive: Archive, answer: Answer) -> Story:
    """Tell the story of an answer that was found."""
    story = Story(answer.envelope.id)
    story.link("prediction", answer)
    _tell_answer(story, answer)
    chronicle = await archive.chronicle()
    applied = _definition(chronicle, answer)
    read = _tell_project(story, chronicle, answer, applied)
    spine = await _tell_inputs(archive, story, answer, read)
    tell_making(story, chronicle, answer)
    tell_state(story, chronicle, answer)
    await tell_outcome(archive, story, answer, spine, applied)
    story.faults += contradictions(story)
    _tell_checkpoint(archive, story)
    return story


def _tell_answer(story: Story, answer: Answer) -> None:
    said = {
        "id": ("ce_id",),
        "moment": ("ce_time", "ce_recordedtime"),
        "correlation": ("ce_correlationid", "ce_causationid"),
        "actor": ("ce_actor",),
        "onnx": ("onnx",),
        **{name: (name,) for name in ("model", "version", "channel", "position", "score")},
    }
    for name, names in said.items():
        story.say(name, answer, *names)
    if answer.fact.entity is None:
        story.lack("the caller named no entity", "entity")
    else:
        story.say("entity", answer, "entity")
    if answer.envelope.traceparent is None:
        story.lack("the question came without a trace, and none was begun", "trace")
    else:
        story.say("trace", answer, "traceparent")


def _definition(chronicle: Chronicle, answer: Answer) -> Applied | None:
    """Return the definition that the version was made by; without it, one with the feature set.

    Of several the last on record when it was answered, else the first.
    """
    having = [
        each
        for each in chronicle.definitions
        if any(part.id == answer.fact.feature_definition for part in each.project.feature_sets.values())
    ]
    registered = chronicle.last(VersionRegistered, model=answer.fact.model, version=answer.fact.version)
    if registered is not None:
        made_by = [each for each in having if each.found.fact.definition_id == registered.fact.definition]
        having = made_by or [each for each in having if each.project.charter.name == registered.fact.project]
    before = [each for each in having if each.found.envelope.recorded_us <= answer.envelope.recorded_us]
    return before[-1] if before else having[0] if having else None


def _tell_project(story: Story, chronicle: Chronicle, answer: Answer, applied: Applied | None) -> ReadSet | None:
    """State what the project is and what its features are called; return the feature set."""
    fact = answer.fact
    story.say("inputs", answer, "features")
    if applied is None:
        missing = f"no definition with feature set {fact.feature_definition} is in the archive"
        if chronicle.unreadable:
            missing += f"; those at leaves {chronicle.unreadable} cannot be read"
        story.lack(missing, "project", "features", "records")
        story.say("feature_set", answer, "feature_definition")
        return None
    compiled = next(
        part.compiled for part in applied.project.feature_sets.values() if part.id == fact.feature_definition
    )
    story.link("project", applied.found)
    charter = ("definition/charter/purpose", "definition/charter/owners", "definition/charter/risk")
    tier = applied.project.charter.risk.tier
    story.say("project", applied.found, "project", "definition_id", "applied_by", *charter, risk_tier=tier)
    story.say("feature_set", answer, "feature_definition", label=compiled.label)
    if len(fact.features) != len(compiled.names):
        count = f"{len(fact.features)} inputs were scored, {compiled.label} has {len(compiled.names)} features"
        story.lack(count, "features", "records")
        story.faults.append(count)
        return None
    story.derive("features", applied.found.leaf, features=described(compiled, fact.features))
    return ReadSet(compiled, _ahead_us(chronicle, compiled))


def _ahead_us(chronicle: Chronicle, compiled: CompiledSet) -> int:
    """Return how far an event of a set's sources may lie after its arrival, by whichever contract accepted it."""
    contracts = [each.project.sources.get(name) for each in chronicle.definitions for name in compiled.streams]
    return max(contract.ahead for contract in contracts if contract is not None)


async def _tell_inputs(archive: Archive, story: Story, answer: Answer, read: ReadSet | None) -> Spine | None:
    """Follow the inputs back to the source; return the accepted record that asked the question."""
    fact = answer.fact
    if fact.row is None:
        looked_up = fact.lookup and f"described an entity, whose features were looked up at {fact.lookup.at}"
        direct = f"asked over {fact.channel}: the caller {looked_up or 'gave the inputs'}, no record asked"
        story.lack(direct, "row", "records", "accepted_record", "source_record")
        return None
    rows = list(events(RowComputed, await archive.with_id(fact.row)))
    row = next((each for each in rows if placed_at(each.entry) == fact.position), rows[0] if rows else None)
    if row is None:
        missing = f"the row {fact.row} is not in the archive"
        story.lack(missing, "row", "records", "accepted_record", "source_record")
        return None
    story.link("row", row)
    story.say("row", row, "ce_id", "feature_set", "definition", "spine_id", "values")
    equal = len(row.fact.values) == len(fact.features) and all(map(same_bits, row.fact.values, fact.features))
    if not equal:
        story.faults.append(f"row {fact.row} has other values than the inputs that were scored")
    spine = next(events(RecordAccepted, await archive.with_id(row.fact.spine_id)), None)
    if spine is None:
        missing = f"the accepted record {row.fact.spine_id} is not in the archive"
        story.lack(missing, "accepted_record", "source_record", "records")
        return None
    story.link("accepted_record", spine)
    story.say("accepted_record", spine, "ce_id", "ce_time", "ce_recordedtime", "contract", "record", "ce_origin")
    await _tell_source(archive, story, spine)
    if read is not None:
        await _tell_records(archive, story, row, spine, read)
    return spine


async def _tell_source(archive: Archive, story: Story, spine: Spine) -> None:
    """Find the source's own record at the place that the accepted one names as its origin."""
    stream, _, offset = (spine.envelope.origin or "").rpartition("/")
    topic, _, part = stream.partition("#")[0].rpartition("/")
    placed = await archive.at(topic, int(part), int(offset)) if part.isdecimal() and offset.isdecimal() else None
    if placed is None:
        story.lack(f"nothing is archived at {spine.envelope.origin}", "source_record")
        return
    entry = placed.entry
    story.link("source_record", placed)
    said = {"key": (entry.key or b"").decode(errors="replace"), "bytes": len(entry.value or b"")}
    story.derive("source_record", placed.leaf, place=placed_at(entry), **said)


async def _tell_records(archive: Archive, story: Story, row: Found[RowComputed], spine: Spine, read: ReadSet) -> None:
    """State the records behind each value, and that they give it again."""
    try:
        columns = await archive.columns(read, spine)
        found = Behind(read.compiled, columns).recompute(spine.leaf, row.fact.values)
    except Rejected as why:
        story.lack(f"the records behind the values cannot be told: {why}", "records")
        return
    story.leaves.update(leaf for each in found for leaf in each.leaves)
    told = [each.document for each in found]
    differing = [str(each["name"]) for each in told if not each["equal"]]
    if differing:
        story.faults.append(f"the records give other values than those served of {', '.join(differing)}")
    story.derive("records", spine.leaf, differing=differing, features=told)


def _tell_checkpoint(archive: Archive, story: Story) -> None:
    try:
        proofs = archive.proofs()
    except Rejected as why:
        story.lack(str(why), "checkpoint")
        return
    checkpoint, found = Checkpoint.parse(proofs.note.text), proofs.signatures
    said: dict[str, object] = {"signed_by": list(found.names)} if found.holds else {"signature": found.told}
    story.faults += [found.fault] if found.fault else []
    story.derive("checkpoint", None, origin=checkpoint.origin, size=checkpoint.size, root=checkpoint.root.hex(), **said)
