"""Checks a bundle of `prediction explain`: check_explanation.py BUNDLE LOG_KEY WITNESS_KEY."""

import hashlib
import json
import struct
import sys
from base64 import b64decode
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

#: The part that an entry plays, its type, and the fields of the story that it tells, with a name that each must quote.
TABLE = """
prediction serving.predicted id=ce_id moment=ce_recordedtime model=model version=version channel=channel score=score
prediction serving.predicted actor=ce_actor correlation=ce_correlationid trace=traceparent position=position onnx=onnx
prediction serving.predicted entity=entity inputs=features feature_set=feature_definition
row feature.row_computed row=values; accepted_record data.record_accepted accepted_record=record records=
project registry.project_applied project=definition/charter/owners features=; run training.run_completed run=run
source_record * source_record=; request training.requested request=requested_by
step training.step_completed code=code environment=environment
registration registry.version_registered onnx=onnx profile=profile evaluation=evidence gates=gates builders=builders
approval registry.version_approved approval=approved_by; promotion registry.version_promoted promotion=promoted_by
dataset training.dataset_built dataset=dataset; promotion registry.version_promoted rollback=replaces
deployment registry.deployment_set deployment=onnx rollout=version; window monitoring.window_judged drift=figures
activation serving.deployment_activated activation=effective_from; alert * alerts=kind
label data.record_accepted outcome=ce_recordedtime; receipt ledger.receipt_issued receipts=event_id
"""
#: What these say and another entry must say, too.
SAME = """
registration,approval,deployment,activation,promotion,window.version=prediction.version row.values=prediction.features
registration,approval,deployment,activation,promotion,window.model=prediction.model accepted_record.ce_id=row.spine_id
registration,approval,deployment,activation,run.onnx=prediction.onnx receipt.event_id=approval.ce_id|promotion.ce_id
registration.feature_set=prediction.feature_definition alert.model=prediction.model|prediction.nothing
accepted_record.ce_origin=source_record.place row.definition=prediction.feature_definition row.ce_id=prediction.row
deployment.approved_by=approval.approved_by run,dataset.dataset=registration.dataset dataset.request=registration.run
run,request,step.run=registration.run accepted_record.record=source_record.
"""
#: The parts that must be there, those that must where a record was asked about, and those that several entries play.
NEEDED = "prediction project run dataset registration approval promotion deployment activation"
NEEDED_FOR_A_RECORD, SEVERAL = " row accepted_record source_record", ("step", "receipt", "alert")


def holds(truth: object, what: str) -> None:
    """Raise ValueError unless something is true."""
    if not truth:
        raise ValueError(what)


def signed(note: str, vkey: str, kind: int) -> list[str]:
    """Return the lines of a checkpoint that this key signed: of a log (1), or of a witness (4) with the time."""
    name, digest, data = (Path(vkey).read_text().strip() if Path(vkey).is_file() else vkey).split("+", 2)
    made = hashlib.sha256(f"{name}\n".encode() + b64decode(data)).digest()[:4]
    text, _, lines = note.rpartition("\n\n")
    found = [b64decode(line.split(" ")[2]) for line in lines.splitlines() if line.split(" ")[:2] == ["\u2014", name]]
    value = next((each[4:] for each in found if each[:4] == made), b"")
    holds(value and b64decode(data)[0] == kind and made.hex() == digest, f"checkpoint: no key of {name} signed it")
    time, value = (f"cosignature/v1\ntime {int.from_bytes(value[:8])}\n", value[8:]) if kind == 4 else ("", value)
    Ed25519PublicKey.from_public_bytes(b64decode(data)[1:]).verify(value, f"{time}{text}\n".encode())
    holds(kind == 4 or text.split("\n")[0] == name, f"checkpoint: it is not of {name}")
    return text.split("\n")


def root_from(entry: bytes, leaf: int, size: int, path: list[bytes]) -> bytes:
    """Return the root to which an audit path leads (RFC 6962, 2.1.1)."""
    holds(0 <= leaf < size and bool(path) == (size > 1), "an audit path has another length")
    if size == 1:
        return hashlib.sha256(b"\0" + entry).digest()
    left = 1 << (size - 1).bit_length() - 1
    below = root_from(entry, *((leaf, left) if leaf < left else (leaf - left, size - left)), path[:-1])
    return hashlib.sha256(b"\1" + (below + path[-1] if leaf < left else path[-1] + below)).digest()


class Entry:
    """A frame of the log: where a record stood, its headers, and what it says."""

    def __init__(self, frame: bytes) -> None:
        at = 5 + struct.unpack_from(">BI", frame)[1]
        self.topic, (part, offset, _, key, size, named) = frame[5:at].decode(), struct.unpack_from(">IqqiiI", frame, at)
        at, end, names = at + 32, at + 32 + named, []
        while at < end:
            names.append(frame[at + 4 : (at := at + 4 + struct.unpack_from(">I", frame, at)[0])].decode())
        at, self.headers = end + 4 * len(names) + max(key, 0), {"place": f"{self.topic}/{part}/{offset}"}
        for name, length in zip(names, struct.unpack_from(f">{len(names)}i", frame, end), strict=True):
            self.headers[name] = frame[at : (at := at + max(length, 0))].decode(errors="replace")
        self.says = json.loads(frame[at:] or b"null")
        holds(frame[0] == 1 and at + max(size, 0) == len(frame), f"{self.headers['place']}: it is no frame")

    def __getitem__(self, path: str) -> Any:
        """Return the place, a header, or a part of the payload by its names."""
        found = self.headers.get(path, self.says)
        for name in path.split("/") if path and path not in self.headers else ():
            found = found.get(name) if isinstance(found, dict) else None
        return found


def check_statements(story: Any, parts: dict[str, int], entries: dict[int, Entry]) -> str:
    """Hold every statement against its entry."""
    plays, quotes, known = dict[str, set[int]](), dict[str, set[str]](), set[str]()
    for part, kind, *fields in (one.split(" ") for one in TABLE.strip().replace("; ", "\n").split("\n")):
        played = {name for name in parts if name == part or (part in SEVERAL and name.split(" ")[0] == part)}
        leaves, known = {parts[name] for name in played}, known | played
        kinds = {entries[leaf]["ce_type"] for leaf in leaves if kind != "*"}
        holds(kinds <= {f"mainstem.{kind}.v1"}, f"{part}: it is of another type")
        for field, _, name in (each.partition("=") for each in fields):
            plays.setdefault(field, set()).update(leaves)
            quotes.setdefault(field, set()).update([name] if name and leaves else [])
    odd = (set(story["fields"]) | set(story["gaps"])) ^ {*plays, "checkpoint"} | set(parts) - known
    odd |= set(story["fields"]) & set(story["gaps"])
    holds(not odd, f"{', '.join(odd)}: neither told or lacking, nor a part, or both")
    for field, leaves in plays.items():
        told, there = story["fields"].get(field, []), [entries[leaf][one] for leaf in leaves for one in quotes[field]]
        holds(told or (story["gaps"][field] and not any(one is not None for one in there)), f"{field}: it is withheld")
        for leaf, says in ((each["leaf"], each["says"]) for each in told):
            holds(leaf in leaves, f"{field}: leaf {leaf} plays no part in it")
            holds(quotes[field] <= set(says), f"{field}: it does not quote {', '.join(quotes[field])}")
            wrong = [name for name in says if json.dumps(entries[leaf][name]) != json.dumps(says[name])]
            holds(not wrong, f"{field}: leaf {leaf} has another {', '.join(wrong)}")
    return f"{len(plays)} fields are what the entries at their leaves say, or have a reason"


def check_inputs(story: Any, e: dict[str, Entry], entries: dict[int, Entry]) -> str:
    """Hold features against their definition, and the records behind them against their entries."""
    sets = {each["id"]: each["spec"] for each in e["project"]["definition/feature_sets"].values()}
    spec = {name: part for name, part in sets[e["prediction"]["feature_definition"]].items() if name != "target"}
    text = json.dumps(spec, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    named = f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"
    holds(named == e["prediction"]["feature_definition"], "feature_set: the definition is of another one")
    served = dict(zip([each["name"] for each in spec["features"]], e["prediction"]["features"], strict=True))
    told = {each["name"]: each["value"] for each in story["fields"]["features"][0]["derived"]["features"]}
    holds(told == served, "features: they are not the inputs that were scored")
    again = [each for one in story["fields"].get("records", []) for each in one["derived"]["features"]]
    made = {each["name"]: each["recomputed"] for each in again}
    holds(made == served or not again, "records: they give other values")
    listed = [one for each in again for records in each["records"].values() for one in records]
    for one, entry in ((each, entries[each["leaf"]]) for each in listed):
        same = (entry["ce_origin"], entry["ce_time"]) == (one["source"], one["event_time"])
        holds(same and entry.topic.startswith("evt.data."), f"records: leaf {one['leaf']} is not the one that is named")
    found = f"{len(listed)} times a record behind them is where it should be" if again else story["gaps"]["records"]
    return f"the features are those of the definition; {found}"


def check_chain(story: Any, parts: dict[str, int], e: dict[str, Entry]) -> str:
    """Hold together what was asked, made, approved, promoted, put in force, answered, and what turned out."""
    made, then = e["registration"], e["prediction"]["ce_recordedtime"]
    for said, others in (pair.split("=") for pair in SAME.split()):
        (several, _, name), them = said.partition("."), [one.split(".") for one in others.split("|")]
        for part in (one for one in e if one.split(" ")[0] in several.split(",") and them[0][0] in e):
            holds(e[part][name] in [e[of][its] for of, its in them], f"{part}: its {name} is not the {others}")
    holds(all(gate["passed"] for gate in made["gates"]) and made["stage"] == "candidate", "gates: not all passed")
    holds(e["approval"]["approved_by"] not in made["builders"], "approval: it is by somebody who built the version")
    holds(parts["registration"] < parts["approval"] < parts["promotion"], "promotion: it came before the approval")
    holds(e["activation"]["effective_from"] <= then, "activation: it was not in effect yet")
    late = [name for name in e if name[:6] in ("window", "alert ") and e[name]["ce_recordedtime"] > then]
    holds(not late, f"{', '.join(late)}: it was not known yet")
    if "label" not in e:
        return f"the version that answered was approved and in force; no outcome: {story['gaps']['outcome']}"
    rule, label = e["project"]["definition/models"][e["prediction"]["model"]]["label"], e["label"]
    known, asked = (datetime.fromisoformat(one) for one in (label["ce_recordedtime"], e["accepted_record"]["ce_time"]))
    same = label.topic == f"evt.data.{rule['source']}" and asked < known <= asked + timedelta(microseconds=rule["wait"])
    same = same and label["record"][rule["key"]] == e["accepted_record"]["record"][rule["key"]]
    truth = label["record"][rule["column"]] > rule["above"]
    told = story["fields"]["outcome"][0]["derived"]
    holds(same and told["truth"] is truth and told["above"] == rule["above"], "outcome: it is not what the label says")
    return f"the version that answered was approved and in force; the outcome was {truth}"


def check(bundle: Any, log: str, witness: str) -> None:
    """Print what holds, check by check; raise ValueError, or what reading raises, at the first that does not."""
    story, (_, size, root, *_), entries = bundle["explanation"], signed(bundle["checkpoint"], log, 1), {}
    signed(bundle["checkpoint"], witness, 4)
    for leaf, frame, path in ((one["leaf"], b64decode(one["frame"]), one["path"]) for one in bundle["entries"]):
        entry = frame if len(frame) < 65_536 else struct.pack(">BQ", 255, len(frame)) + hashlib.sha256(frame).digest()
        made = root_from(entry, leaf, int(size), list(map(b64decode, path)))
        holds(made == b64decode(root), f"leaf {leaf}: this entry is not in the log")
        entries[leaf] = Entry(frame)
    print(f"holds  {len(entries)} entries are below the checkpoint over {size}, which log and witness signed")
    parts = {each["name"]: each["leaf"] for each in story["links"]}
    e = {name: entries[leaf] for name, leaf in parts.items()}
    missing = set((NEEDED + NEEDED_FOR_A_RECORD * bool(e["prediction"]["row"])).split()) - set(e)
    holds(not missing and story["prediction"] == e["prediction"]["ce_id"], f"prediction: no {missing}, or another id")
    holds(not story["faults"], f"it contradicts: {story['faults']}")
    for one in story["links"]:
        said, there = ("{topic}/{partition}/{offset}".format(**one), one["event_id"], one["recorded"]), e[one["name"]]
        holds(said == (there["place"], there["ce_id"], there["ce_recordedtime"]), f"{one['name']}: it stands elsewhere")
    told = story["fields"]["checkpoint"][0]["derived"]
    same = (told["size"], told["root"]) == (int(size), b64decode(root).hex()) and len(parts) == len(story["links"])
    holds(same, "checkpoint: it is told otherwise than it was signed, or two entries play one part")
    print(f"holds  {check_statements(story, parts, entries)}")
    print(f"holds  {check_inputs(story, e, entries)}")
    print(f"holds  {check_chain(story, parts, e)}")


if __name__ == "__main__":
    try:
        check(json.loads(Path(sys.argv[1]).read_text()), *sys.argv[2:])
    except (InvalidSignature, ValueError, LookupError, TypeError, AttributeError, OSError, struct.error) as fault:
        sys.exit(f"FAILS  {fault if isinstance(fault, ValueError) else repr(fault)}")
