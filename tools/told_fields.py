"""Whether an explanation tells every field, of the entries that play its parts, and quotes them word for word."""

import hashlib
import json
import sys
import tomllib
from itertools import accumulate
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
from proven_entries import Entry, closed, holds

RULES = tomllib.loads(Path(__file__).with_name("check_explanation.toml").read_text())
#: The weights of arms are shares of this.
WHOLE = 10_000
#: The fields without a quotation that an entry tells of whenever it plays its part.
MUST_BE_COMPUTED = ("features", "source_record")


def written(value: object) -> str:
    """Return a value as text that differs where the value, its type or the sign of a zero does."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def address(value: object) -> str:
    """Return the content address of a definition."""
    return f"sha256:{hashlib.sha256(written(value).encode()).hexdigest()}"


class Story:
    """A story, and the entries that it rests on: of the log by leaf, and of its parts by name."""

    def __init__(self, document: Any, entries: dict[int, Entry]) -> None:
        self.document, self.entries, self.leaves = document, entries, dict[str, int]()
        for link in document["links"]:
            closed(link, "links", "name leaf topic partition offset event_id recorded")
            holds(link["name"] not in self.leaves, f"{link['name']}: two entries play one part")
            self.leaves[link["name"]] = link["leaf"]
        self.parts = {name: self.at(leaf, name) for name, leaf in self.leaves.items()}

    def at(self, leaf: int, what: str) -> Entry:
        """Return the entry of a leaf; `what` is named where it is lacking."""
        have = f"{what}: the bundle lacks the entry of leaf {leaf}; have it written anew by `prediction explain`"
        holds(leaf in self.entries, have)
        return self.entries[leaf]

    def playing(self, part: str) -> list[str]:
        """Return the names under which entries play a part."""
        return [name for name in self.parts if name.partition(" ")[0] == part]

    def said(self, path: str) -> list[Any]:
        """Return what the entries that play a part say under a name: `part.name`."""
        part, _, name = path.partition(".")
        return [self.parts[one][name] for one in self.playing(part)]

    def told(self, field: str) -> list[Any]:
        """Return what was computed of a field; of one that is not told, nothing."""
        return [one["derived"] for one in self.document["fields"].get(field, []) if "derived" in one]

    @property
    def model(self) -> Any:
        """Return how the project declares the model that answered."""
        name = self.parts["prediction"]["model"]
        found = (self.parts["project"]["definition/models"] or {}).get(name)
        holds(found, f"project: it declares no model {name!r}")
        return found


def check_parts(story: Story) -> None:
    """Hold that every entry may play its part and stands where its link says, and that no part is lacking."""
    for name in story.parts:
        holds(name.partition(" ")[0] in RULES["parts"], f"{name}: there is no such part")
    stream, replaced = any(story.said("prediction.row")), story.said("promotion.replaces") not in ([], [None])
    arms = [arm for some in story.said("deployment.arms") for arm in some or () if arm["shadow"] and not stream]
    shadow = any(arm["version"] in story.said("prediction.version") for arm in arms)
    there: dict[str, bool | None] = {"always": True, "on the stream": stream, "when one was replaced": replaced}
    there["unless it is a shadow"] = None if shadow else True
    for part, rule in RULES["parts"].items():
        wanted, names = there.get(rule.get("needed")), story.playing(part)
        holds(names or not wanted, f"{part}: it is lacking; explain the answer anew, and read what contradicts it")
        holds(not names or wanted is not False, f"{part}: there is none of this answer")
        for name in names:
            entry = story.parts[name]
            kind, of_a_source = str(entry["ce_type"]).rpartition(".v")[0], entry.topic.startswith("src.")
            fits = of_a_source if not rule["types"] else kind in rule["types"] and not of_a_source
            holds(fits, f"{name}: it is of another type")
            own = f"{part} {entry[rule['several']]}" if "several" in rule else part
            holds(name == own, f"{name}: it is told by this name, and is {own}")
    for link in story.document["links"]:
        entry, place = story.parts[link["name"]], "{topic}/{partition}/{offset}".format(**link)
        holds(place == entry["place"], f"{link['name']}: it stands elsewhere, at {entry['place']}")
        same = (link["event_id"], link["recorded"]) == (entry["ce_id"], entry["ce_recordedtime"])
        holds(same, f"{link['name']}: it stands elsewhere: event id or time is another's")


def check_fields(story: Story) -> str:
    """Hold every field against the entries that tell of it, and what they say against what is quoted."""
    fields, gaps = dict(story.document["fields"]), story.document["gaps"]
    holds(fields.pop("checkpoint", None), "checkpoint: it is withheld")
    tellers = tellers_of(story)
    odd = sorted((set(fields) | set(gaps)) ^ set(tellers) | set(fields) & set(gaps))
    holds(not odd, f"{', '.join(odd)}: each field is told or lacking, and there are no others")
    for field, reason in gaps.items():
        quotes = [story.entries[leaf][name] for leaf, names in tellers[field].items() for name in names]
        owed = any(one is not None for one in quotes) or (field in MUST_BE_COMPUTED and tellers[field])
        holds(reason and isinstance(reason, str) and not owed, f"{field}: it is withheld")
    for field, statements in fields.items():
        for one in statements:
            closed(one, field, "leaf says derived" if field in RULES["derived"] else "leaf says")
            closed(one.get("derived", {}), f"{field}, derived", " ".join(RULES["derived"].get(field, ())))
        leaves = sorted(one["leaf"] for one in statements)
        holds(leaves == sorted(tellers[field]), f"{field}: other leaves play a part in it")
        for one in statements:
            check_quotes(field, one, story.entries[one["leaf"]], tellers[field][one["leaf"]])
    return f"{len(tellers)} fields are what their entries say; not told: {', '.join(gaps) or 'none'}"


def tellers_of(story: Story) -> dict[str, dict[int, list[str]]]:
    """Return of each field the leaves that tell of it, and the names that each quotes."""
    tellers = dict[str, dict[int, list[str]]]()
    for part, rule in RULES["parts"].items():
        for field, names in rule["tells"].items():
            quoted = [name.format(**story.model["label"]) for name in names]
            tellers.setdefault(field, {}).update({story.leaves[one]: quoted for one in story.playing(part)})
    return tellers


def check_quotes(field: str, statement: Any, entry: Entry, names: list[str]) -> None:
    """Hold that a statement quotes all that its entry says of some names, no other name, and nothing else of any."""
    says = statement["says"]
    lacking = [name for name in names if entry[name] is not None and name not in says]
    holds(not lacking, f"{field}: it does not quote {', '.join(lacking)}")
    more = [name for name in says if name not in names]
    holds(not more, f"{field}: it may not quote {', '.join(more)}")
    wrong = [name for name in says if written(entry[name]) != written(says[name])]
    holds(not wrong, f"{field}: leaf {statement['leaf']} has another {', '.join(wrong)}")


def check_derived(story: Story) -> None:
    """Hold what was computed of some fields against the entries."""
    risk = list(story.parts["project"]["definition/charter/risk"].values())
    tier = "high" if max(risk) == 5 or sum(risk) >= 14 else "medium" if sum(risk) >= 9 else "low"
    holds(story.told("project") == [{"risk_tier": tier}], f"project: the tier of its risk is {tier}")
    holds(written(story.told("rollout")) == written([check_arm(story)]), "rollout: it is told otherwise")
    for source in story.playing("source_record"):
        entry = story.parts[source]
        there = {"place": entry["place"], "key": entry.key, "bytes": entry.bytes}
        holds(written(story.told(source)) == written([there]), "source_record: its place, key or size is another")


def check_arm(story: Story) -> dict[str, Any]:
    """Hold that the deployment has the version that answered; return what is to be told of the rollout."""
    answer, deployment = story.parts["prediction"], story.parts["deployment"]
    beside, stream = deployment["arms"] or [], answer["row"] is not None
    own = {name: deployment[name] for name in ("version", "onnx", "profile")}
    arms = [own | {"weight": WHOLE - sum(arm["weight"] for arm in beside), "shadow": False}, *beside]
    for one in arms:
        fits = type(one["weight"]) is int and one["weight"] >= 0 and not (one["shadow"] and one["weight"])
        alone = [each["version"] for each in arms].count(one["version"]) == 1
        holds(fits and alone, "deployment: its arms cannot stand beside each other")
    arm = next((one for one in (arms[:1] if stream else arms) if one["version"] == answer["version"]), arms[0])
    for name, part in (("version", "prediction"), ("onnx", "prediction"), ("profile", "registration")):
        same = written(arm[name]) == written(story.parts[part][name])
        holds(same, f"deployment: its {name} is not the {part}.{name}")
    approved = arm is not arms[0] or deployment["approved_by"] == story.parts["approval"]["approved_by"]
    holds(approved, "deployment: its approved_by is not the approval.approved_by")
    drawn = f"{deployment['salt'] or ''}\0{answer['entity'] or answer['ce_correlationid']}".encode()
    place = int.from_bytes(hashlib.blake2b(drawn, digest_size=8).digest()) * WHOLE >> 64
    ends = accumulate(one["weight"] for one in beside)
    holder = next((one for one, end in zip(beside, ends, strict=True) if place < end), arms[0])
    how = "shadow" if arm["shadow"] else "drawn" if arm is holder else "named"
    how = "alone" if not beside else "stream" if stream else how
    share = 1.0 if stream else arm["weight"] / WHOLE
    return {"arms": len(arms), "share": share, "route": RULES["rollout"][how]}
