"""Checks a bundle of `prediction explain`: check_explanation.py BUNDLE LOG_KEY WITNESS_KEY (each key, or its file).

proven_entries.py finds which entries are in the log, told_fields.py whether they are quoted as they are; here they are
held against each other. What they must say is in check_explanation.toml.
"""

import json
import sys
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
from proven_entries import Entry, closed, holds, proven
from told_fields import RULES, Story, address, check_derived, check_fields, check_parts, written


def check_features(story: Story) -> str:
    """Hold the features against their definition, and the records behind them against their entries."""
    answer, label = story.parts["prediction"], story.told("feature_set")[0]["label"]
    found = story.parts["project"]["definition/feature_sets"].get(label, {"id": None, "spec": {}})
    spec = {name: part for name, part in found["spec"].items() if name != "target"}
    holds(found["id"] == answer["feature_definition"] == address(spec), "feature_set: it is another's")
    served = written(list(zip([one["name"] for one in spec["features"]], answer["features"], strict=True)))
    told = story.told("features")[0]["features"]
    for one in told:
        closed(one, "features", "name expression value")
    holds(written([[one["name"], one["value"]] for one in told]) == served, "features: not the inputs that were scored")
    behind = set[int]()
    for again in story.told("records"):
        values = written([[one["name"], one["recomputed"]] for one in again["features"] if one["equal"] is True])
        holds(values == served and again["differing"] == [], "records: they give other values")
        for feature, one in zip(spec["features"], again["features"], strict=True):
            behind |= check_records(story, feature, one)
    unnamed = set(story.entries) - behind - set(story.leaves.values())
    holds(not unnamed, f"leaves {sorted(unnamed)}: nothing names these entries")
    return f"the features are those of the definition; {len(behind)} records behind them are where they should be"


def check_records(story: Story, feature: Any, told: Any) -> set[int]:
    """Hold the records behind a value against its definition; return their leaves."""
    closed(told, "records", "name recomputed equal count records")
    what, value = f"records: {told['name']}", told["recomputed"]
    listed = [one for some in told["records"].values() for one in some]
    holds(type(told["count"]) is int and told["count"] == len(listed), f"{what}: its count is not {len(listed)}")
    for one in listed:
        check_record(story, what, one)
    reads = list(parts_of(feature["value"]))
    columns = {one.get("column", one.get("at")) for one in reads}
    asking = [one for one in listed if one["leaf"] == story.leaves["accepted_record"]]
    holds(len(asking) == len(columns), f"{what}: the record that asked is told {len(asking)} times, not {len(columns)}")
    others = [story.entries[one["leaf"]] for one in listed if one not in asking]
    for one in others:
        counts = any(within(part, story.parts["accepted_record"], one) for part in reads if "aggregate" in part)
        holds(counts, f"{what}: it does not rest on {one['place']}")
    aggregate = feature["value"].get("aggregate")
    enough = len(others) == (value or 0) if aggregate == "count" else others or not aggregate or not value
    holds(enough, f"{what}: {value} does not come of {len(others)} records")
    return {one["leaf"] for one in listed}


def check_record(story: Story, what: str, told: Any) -> None:
    """Hold that a record is an accepted one of the place and time that are told, and was there for the row."""
    closed(told, what, "leaf source event_time value")
    entry = story.at(told["leaf"], what)
    same = (entry["ce_origin"], entry["ce_time"]) == (told["source"], told["event_time"])
    accepted = entry["ce_type"] == story.parts["accepted_record"]["ce_type"] and entry.topic.startswith("evt.data.")
    holds(same and accepted, f"{what}: leaf {told['leaf']} is not the one that is named")
    in_time = entry["ce_recordedtime"] <= story.parts["row"]["ce_recordedtime"]
    holds(in_time, f"{what}: leaf {told['leaf']} came too late")


def parts_of(expression: Any) -> Iterator[Any]:
    """Yield the aggregates of an expression, and the columns that it reads beside them."""
    if isinstance(expression, dict) and not {"aggregate", "column"} & set(expression):
        for part in expression.values():
            yield from parts_of(part)
    elif isinstance(expression, list):
        for part in expression:
            yield from parts_of(part)
    elif isinstance(expression, dict):
        yield expression


def within(window: Any, spine: Entry, entry: Entry) -> bool:
    """Tell whether a record may count in an aggregate: of its stream and key, before the question, in its reach."""
    reach = window.get("window_us", window.get("horizon_us", window.get("ttl_us")))
    asked, happened = (datetime.fromisoformat(one["ce_time"]) for one in (spine, entry))
    near = reach is None or asked - happened <= timedelta(microseconds=reach + window.get("hop_us", 0))
    keyed = entry["record"].get(window["by"]) == spine["record"].get(window["at"])
    return entry.topic == f"evt.data.{window['stream']}" and keyed and happened < asked and near


def check_chain(story: Story) -> None:
    """Hold that the entries say alike what they must, and stand in the order of the rules."""
    for said, others in {**RULES["same"], **RULES["same_if_said"]}.items():
        part, _, name = said.partition(".")
        named = [others] if isinstance(others, str) else others
        wanted = [written(value) for other in named for value in story.said(other)]
        for one in story.playing(part) if wanted else ():
            value = story.parts[one][name]
            free = value is None and said in RULES["same_if_said"]
            holds(free or written(value) in wanted, f"{one}: its {name} is not the {' or '.join(named)}")
    for said, other in RULES["not_after"].items():
        part, _, name = said.partition(".")
        late = [one for one in story.playing(part) if not story.parts[one][name] <= story.said(other)[0]]
        holds(not late, f"{', '.join(late)}: its {name} is after the {other}")
    for first, then in RULES["before"].items():
        behind = {first, then} <= set(story.leaves) and story.leaves[first] >= story.leaves[then]
        holds(not behind, f"{then}: it came before the {first}")


def check_decision(story: Story) -> None:
    """Hold the gates against the settings of the project and the evidence, and who approved against who built."""
    made, settings = story.parts["registration"], story.model["gates"]
    project = story.parts["project"]
    holds(project["definition_id"] == address(project["definition"]), "project: its definition_id is not its content's")
    gates = {gate["name"]: gate for gate in made["gates"]}
    holds(sorted(gates) == sorted(RULES["gates"]) and len(gates) == len(made["gates"]), "gates: others judged it")
    holds(all(gate["passed"] is True for gate in gates.values()), "gates: not all passed")
    holds(made["stage"] == "candidate", f"registration: its stage is {made['stage']!r}, and not 'candidate'")
    for name, rule in RULES["gates"].items():
        figure, limit = gates[name]["figure"], gates[name]["limit"]
        holds(limit == rule["sign"] * settings[rule["setting"]], f"gates: {name} was held against {limit}")
        holds(figure == made[rule["figure"]], f"gates: {name} judged {figure}, the evidence has {made[rule['figure']]}")
        if figure is None:
            holds(rule["first"], f"gates: {name} judged nothing")
            continue
        kept = figure >= limit if rule["least"] else figure <= limit
        holds(kept, f"gates: {name} did not pass")
    sure = made["evidence/incumbent"] is None or made["evidence/incumbent/confidence"] >= settings["confidence"]
    holds(sure, "gates: the comparison is less sure than the project asks")
    first = story.said("promotion.replaces") == [None]
    holds(not first or made["evidence/incumbent"] is None, "promotion: it replaces none, the gates compared with one")
    approver = story.parts["approval"]["approved_by"]
    holds(approver not in made["builders"], "approval: it is by somebody who built the version")


def check_begun(story: Story) -> None:
    """Hold that what was activated had begun to answer at the place of the row."""
    if story.playing("row"):
        topic, partition, offset = story.parts["prediction"]["position"].rsplit("/", 2)
        reads = f"evt.feature.{story.parts['deployment']['feature_set']}"
        holds(topic == reads, f"activation: it reads {reads}, and the answer is to {topic}")
        first = story.parts["activation"]["from_offsets"].get(partition, 0)
        holds(first <= int(offset), f"activation: it begins at offset {first} of partition {partition}, not {offset}")


def check_outcome(story: Story) -> str:
    """Hold the outcome against the label, and the label against the rule of the model."""
    if not story.playing("label"):
        return f"no outcome: {story.document['gaps']['outcome']!r}"
    rule, label, told = story.model["label"], story.parts["label"], story.told("outcome")[0]
    asking = story.at(story.leaves.get("accepted_record", -1), "accepted_record")
    came, asked = (datetime.fromisoformat(one) for one in (label["ce_recordedtime"], asking["ce_time"]))
    holds(label.topic == f"evt.data.{rule['source']}", f"outcome: it is not what the label says, on {label.topic}")
    in_time = asked < came <= asked + timedelta(microseconds=rule["wait"])
    holds(in_time, f"outcome: it is not what the label says, which came at {came}")
    holds(label["record"][rule["key"]] == asking["record"][rule["key"]], "outcome: the label is of another key")
    truth = label["record"][rule["column"]] > rule["above"]
    holds(told["truth"] is truth, f"outcome: it is not what the label says: {truth}")
    holds(told["above"] == rule["above"], f"outcome: it is not what the label says: above {rule['above']}")
    return f"the outcome was {truth}"


def check(bundle: Any, log: str, witness: str) -> None:
    """Print what holds, check by check; raise ValueError, or what reading raises, at the first that does not."""
    checkpoint, entries = proven(bundle, log, witness)
    print(f"holds  {len(entries)} entries are below the checkpoint over {checkpoint['size']} that both keys signed")
    document = bundle["explanation"]
    closed(document, "the explanation", "format prediction fields gaps faults links")
    formats = {"bundle": bundle["format"], "explanation": document["format"]}
    holds(formats == RULES["formats"], f"it has the formats {formats}, this reads {RULES['formats']}")
    holds(document["faults"] == [], f"it contradicts: {document['faults']}")
    told = [{"leaf": None, "says": {}, "derived": checkpoint}]
    holds(written(document["fields"].get("checkpoint")) == written(told), "checkpoint: it is told otherwise")
    story = Story(document, entries)
    check_parts(story)
    holds(document["prediction"] == story.parts["prediction"]["ce_id"], "prediction: the story is of another id")
    print(f"holds  {check_fields(story)}")
    check_derived(story)
    check_chain(story)
    check_decision(story)
    check_begun(story)
    print(f"holds  {check_features(story)}")
    print(f"holds  the version that answered was approved and activated before; {check_outcome(story)}")


if __name__ == "__main__":
    try:
        text = Path(sys.argv[1]).read_text()
        holds(json.dumps(json.loads(text), separators=(",", ":")) == text, "it was not written by `prediction explain`")
        check(json.loads(text), *sys.argv[2:])
    except Exception as fault:  # noqa: BLE001  (whatever it is, the bundle does not hold)
        sys.exit(f"FAILS  {fault if isinstance(fault, ValueError) else repr(fault)}")
