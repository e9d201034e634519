"""Checks a bundle of `prediction explain`: check_explanation.py BUNDLE LOG_KEY WITNESS_KEY (each key, or its file)."""

import hashlib
import json
import struct
import sys
from base64 import b64decode
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

#: The part that an entry plays, its type (* is what a source wrote), and what it tells = the name that it must quote.
TABLE = """
prediction predicted id=ce_id moment=ce_recordedtime model version channel score actor=ce_actor position onnx
correlation=ce_correlationid trace=traceparent entity inputs=features feature_set=feature_definition; row row_computed
row=values; accepted_record record_accepted accepted_record=record records=; source_record * source_record=; project
project_applied project=definition/charter/owners features=; request requested request=requested_by; run run_completed
run; step step_completed code environment; dataset dataset_built dataset; registration version_registered onnx profile
evaluation=evidence gates builders; approval version_approved approval=approved_by; promotion version_promoted
promotion=promoted_by rollback=replaces; deployment deployment_set deployment=onnx rollout=version; activation
deployment_activated activation=effective_from; window window_judged drift=figures; alert alert_opened alerts=kind;
label record_accepted outcome=ce_recordedtime; receipt receipt_issued receipts=event_id
"""
#: What these say and another entry must say, too, or one of two others ({D} are the decisions).
SAME = """
registration,approval,deployment,activation,run.onnx=prediction.onnx run,dataset.feature_set=registration.feature_set
request,run,dataset,project,deployment.project=registration.project receipt.event_id=approval.ce_id|promotion.ce_id
alert.definition=prediction.feature_definition|prediction.nothing registration.feature_set=prediction.feature_definition
deployment.feature_definition=prediction.feature_definition {D},request,run,dataset,window,step.model=prediction.model
alert.model=prediction.model|prediction.nothing run,dataset.definition=registration.definition row.ce_id=prediction.row
accepted_record.ce_origin=source_record.place row.definition=prediction.feature_definition
run,deployment.profile=registration.profile deployment.approved_by=approval.approved_by dataset.request=registration.run
run,dataset.dataset=registration.dataset {D},window.version=prediction.version run,request,step.run=registration.run
accepted_record.record=source_record. accepted_record.ce_id=row.spine_id row.values=prediction.features
"""
D, OF_A_RECORD = "registration,approval,promotion,deployment,activation", {"row", "accepted_record", "source_record"}
NEEDED, SEVERAL = {"prediction", "project", "run", "dataset", *D.split(",")}, ("step", "receipt", "alert")


def holds(truth: object, what: str) -> None:
    """Raise ValueError unless something is true."""
    if not truth:
        raise ValueError(what)


def signed(note: str, vkey: str, kind: int) -> list[str]:
    """Return the lines of a checkpoint that this key signed: of a log (1), or of a witness (4) with the time."""
    key = vkey if vkey.count("+") > 1 else Path(vkey).read_text().strip()
    (name, digest, data), (text, _, lines) = key.split("+", 2), note.rpartition("\n\n")
    made = hashlib.sha256(f"{name}\n".encode() + b64decode(data)).digest()[:4]
    found = [b64decode(line.split(" ")[2]) for line in lines.splitlines() if line.split(" ")[:2] == ["\u2014", name]]
    value = next((each[4:] for each in found if each[:4] == made), b"")
    holds(value and b64decode(data)[0] == kind and made.hex() == digest, f"checkpoint: no key of {name} signed it")
    time, value = (f"cosignature/v1\ntime {int.from_bytes(value[:8])}\n", value[8:]) if kind == 4 else ("", value)
    Ed25519PublicKey.from_public_bytes(b64decode(data)[1:]).verify(value, f"{time}{text}\n".encode())
    holds(kind == 4 or text.split("\n")[0] == name, f"checkpoint: it is not of {name}")
    return text.split("\n")


def root_from(entry: bytes, leaf: int, size: int, path: list[bytes]) -> bytes:
    """Return the root to which an audit path leads (RFC 6962, 2.1.1)."""
    holds(type(leaf) is int and 0 <= leaf < size and bool(path) == (size > 1), "an audit path has another length")
    if size == 1:
        return hashlib.sha256(b"\0" + entry).digest()
    left = 1 << (size - 1).bit_length() - 1
    below = root_from(entry, *((leaf, left) if leaf < left else (leaf - left, size - left)), path[:-1])
    return hashlib.sha256(b"\1" + (below + path[-1] if leaf < left else path[-1] + below)).digest()


class Entry:
    """A frame of the log; `[path]` is where a record stood, a header, or a part of its payload by its names."""

    def __init__(self, frame: bytes) -> None:
        at = 5 + struct.unpack_from(">BI", frame)[1]
        self.topic, (part, offset, _, key, size, named) = frame[5:at].decode(), struct.unpack_from(">IqqiiI", frame, at)
        at, end, names, self.headers = at + 32, at + 32 + named, [], {}
        while at < end:
            names.append(frame[at + 4 : (at := at + 4 + struct.unpack_from(">I", frame, at)[0])].decode())
        at, self.place = end + 4 * len(names) + max(key, 0), f"{self.topic}/{part}/{offset}"
        for name, length in zip(names, struct.unpack_from(f">{len(names)}i", frame, end), strict=True):
            self.headers[name] = frame[at : (at := at + max(length, 0))].decode(errors="replace")
        self.says, self.headers["place"] = json.loads(frame[at:] or b"null"), self.place
        holds(frame[0] == 1 and at + max(size, 0) == len(frame), f"{self.place}: it is no frame")

    def __getitem__(self, path: str) -> Any:
        found = self.headers.get(path) if path[:3] == "ce_" or path in ("place", "traceparent") else self.says
        for name in path.split("/") if path and found is self.says else ():
            found = found.get(name) if isinstance(found, dict) else None
        return found


def check_statements(story: Any, parts: dict[str, int], entries: dict[int, Entry]) -> str:
    """Hold every statement against its entry."""
    plays, quotes, known = dict[str, set[int]](), dict[str, set[str]](), set[str]()
    for part, kind, *fields in (one.split() for one in TABLE.split(";")):
        played = {name for name in parts if name == part or (part in SEVERAL and name.split(" ")[0] == part)}
        leaves, known = {parts[name] for name in played}, known | played
        ours = [str(entries[leaf]["ce_type"]).split(".")[-2] for leaf in leaves if entries[leaf].topic[:4] != "src."]
        fits = len(ours) == len(leaves) * (kind != "*") and all(one.endswith(kind) for one in ours)
        holds(fits, f"{part}: it is of another type")
        for field, said, name in (each.partition("=") for each in fields):
            plays.setdefault(field, set()).update(leaves)
            quotes.setdefault(field, set()).update([name or field] if leaves and (name or not said) else [])
    odd = (set(story["fields"]) | set(story["gaps"])) ^ {*plays, "checkpoint"} | set(parts) - known
    odd |= set(story["fields"]) & set(story["gaps"])
    holds(not odd, f"{', '.join(odd)}: neither told or lacking, nor a part, or both")
    for field, leaves in plays.items():
        told, there = story["fields"].get(field, []), [entries[leaf][one] for leaf in leaves for one in quotes[field]]
        holds(told or (story["gaps"][field] and not any(one is not None for one in there)), f"{field}: it is withheld")
        holds(not told or sorted(each["leaf"] for each in told) == sorted(leaves), f"{field}: other leaves play a part")
        for leaf, says in ((each["leaf"], each["says"]) for each in told):
            holds(quotes[field] <= set(says), f"{field}: it does not quote {', '.join(quotes[field])}")
            wrong = [name for name in says if json.dumps(entries[leaf][name]) != json.dumps(says[name])]
            holds(not wrong, f"{field}: leaf {leaf} has another {', '.join(wrong)}")
    return f"{len(plays)} fields are what their entries say; not told: {', '.join(story['gaps']) or 'none'}"


def check_inputs(story: Any, e: dict[str, Entry], entries: dict[int, Entry]) -> str:
    """Hold features against their definition, and the records behind them against their entries."""
    sets = {each["id"]: each["spec"] for each in e["project"]["definition/feature_sets"].values()}
    spec = {name: part for name, part in sets[e["prediction"]["feature_definition"]].items() if name != "target"}
    named = hashlib.sha256(json.dumps(spec, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode())
    holds(f"sha256:{named.hexdigest()}" == e["prediction"]["feature_definition"], "feature_set: it is another's")
    names = [each["name"] for each in spec["features"]]
    served = json.dumps(list(zip(names, e["prediction"]["features"], strict=True)))
    told = [[each["name"], each["value"]] for each in story["fields"]["features"][0]["derived"]["features"]]
    holds(json.dumps(told) == served, "features: they are not the inputs that were scored")
    again = story["fields"].get("records", [{"derived": {"features": [], "differing": []}}])[0]["derived"]
    made = json.dumps([[each["name"], each["recomputed"]] for each in again["features"] if each["equal"] is True])
    holds((made == served and not again["differing"]) or "records" in story["gaps"], "records: they give other values")
    listed = [one for each in again["features"] for some in each["records"].values() for one in some]
    for one, entry in ((each, entries[each["leaf"]]) for each in listed):
        said = (one["source"], one["event_time"], "mainstem.data.record_accepted.v1", "evt.data.")
        same = (entry["ce_origin"], entry["ce_time"], entry["ce_type"], entry.topic[:9]) == said
        same = same and entry["ce_recordedtime"] <= e["row"]["ce_recordedtime"]
        holds(same, f"records: leaf {one['leaf']} is not the one that is named, or came too late")
    return f"the features are those of the definition; {len(listed)} times a record behind them is where it should be"


def check_chain(story: Any, parts: dict[str, int], e: dict[str, Entry]) -> str:
    """Hold together what was asked, made, approved, promoted, put in force, answered, and what turned out."""
    made, then = e["registration"], e["prediction"]["ce_recordedtime"]
    for said, others in (pair.split("=") for pair in SAME.format(D=D).split()):
        (several, _, name), them = said.partition("."), [one.split(".") for one in others.split("|")]
        for part in (one for one in e if one.split(" ")[0] in several.split(",") and them[0][0] in e):
            holds(e[part][name] in [e[of][its] for of, its in them], f"{part}: its {name} is not the {others}")
    holds(made["gates"] and all(gate["passed"] is True for gate in made["gates"]), "gates: not all passed")
    holds(e["approval"]["approved_by"] not in made["builders"], "approval: it is by somebody who built the version")
    holds(parts["registration"] < parts["approval"] < parts["promotion"], "promotion: it came before the approval")
    holds(e["activation"]["effective_from"] <= then, "activation: it was not in effect yet")
    late = [one for one in e if one.split(" ")[0] in {*NEEDED, "window", "alert"} and e[one]["ce_recordedtime"] > then]
    holds(not late, f"{', '.join(late)}: it was not known yet")
    if "label" not in e:
        return f"the version that answered was approved and activated before; no outcome: {story['gaps']['outcome']!r}"
    rule, label = e["project"]["definition/models"][e["prediction"]["model"]]["label"], e["label"]
    came, asked = (datetime.fromisoformat(one) for one in (label["ce_recordedtime"], e["accepted_record"]["ce_time"]))
    same = label.topic == f"evt.data.{rule['source']}" and asked < came <= asked + timedelta(microseconds=rule["wait"])
    same = same and label["record"][rule["key"]] == e["accepted_record"]["record"][rule["key"]]
    truth = label["record"][rule["column"]] > rule["above"]
    told = story["fields"]["outcome"][0]["derived"]
    holds(same and told["truth"] is truth and told["above"] == rule["above"], "outcome: it is not what the label says")
    return f"the version that answered was approved and activated before; the outcome was {truth}"


def check(bundle: Any, log: str, witness: str) -> None:
    """Print what holds, check by check; raise ValueError, or what reading raises, at the first that does not."""
    story, (origin, size, root, *_), entries = bundle["explanation"], signed(bundle["checkpoint"], log, 1), {}
    signed(bundle["checkpoint"], witness, 4)
    for leaf, frame, path in ((one["leaf"], b64decode(one["frame"]), one["path"]) for one in bundle["entries"]):
        entry = frame if len(frame) < 65_536 else struct.pack(">BQ", 255, len(frame)) + hashlib.sha256(frame).digest()
        made = root_from(entry, leaf, int(size), [*map(b64decode, path)])
        holds(made == b64decode(root), f"leaf {leaf}: this entry is not in the log")
        entries[leaf] = Entry(frame)
    print(f"holds  {len(entries)} entries are below the checkpoint over {size}, which log and witness signed")
    parts = {each["name"]: each["leaf"] for each in story["links"]}
    e = {name: entries[leaf] for name, leaf in parts.items()}
    asked = OF_A_RECORD if e["prediction"]["row"] else set()
    odd = (NEEDED | asked) - set(e) | (OF_A_RECORD - asked) & set(e)
    holds(not odd and story["prediction"] == e["prediction"]["ce_id"], f"prediction: lacks or has {odd}, or another id")
    holds(not story["faults"], f"it contradicts: {story['faults']}")
    for one in story["links"]:
        said, there = ("{topic}/{partition}/{offset}".format(**one), one["event_id"], one["recorded"]), e[one["name"]]
        holds(said == (there["place"], there["ce_id"], there["ce_recordedtime"]), f"{one['name']}: it stands elsewhere")
    by = [line.split(" ")[1] for line in bundle["checkpoint"].rpartition("\n\n")[2].splitlines()]
    derived = {"origin": origin, "size": int(size), "root": b64decode(root).hex(), "signed_by": by}
    same = story["fields"]["checkpoint"] == [{"leaf": None, "says": {}, "derived": derived}]
    holds(same and len(parts) == len(story["links"]), "checkpoint: it is told otherwise, or two entries play one part")
    found = check_statements(story, parts, entries), check_inputs(story, e, entries), check_chain(story, parts, e)
    print(*(f"holds  {each}" for each in found), sep="\n")


if __name__ == "__main__":
    try:
        text = Path(sys.argv[1]).read_text()
        holds(json.dumps(json.loads(text), separators=(",", ":")) == text, "it was not written by `prediction explain`")
        check(json.loads(text), *sys.argv[2:])
    except Exception as fault:  # noqa: BLE001  (whatever it is, the bundle does not hold)
        sys.exit(f"FAILS  {fault if isinstance(fault, ValueError) else repr(fault)}")
