"""Write `schemas/` from the vocabulary, or check that it is what the vocabulary says and changed compatibly.

`python -m mainstem.events.export DIR` writes, `python -m mainstem.events.export --check DIR` checks.
"""

import sys
from pathlib import Path
from typing import Any

import orjson

from mainstem.events.catalogue import FACTS
from mainstem.events.compat import incompatibilities
from mainstem.events.envelope import dataschema
from mainstem.events.fact import Fact
from mainstem.events.topics import TOPICS, Topic

Document = dict[str, Any]

_FORMAT = orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS | orjson.OPT_APPEND_NEWLINE


def schema(fact: type[Fact]) -> Document:
    """Return the JSON Schema of a fact's payload."""
    body = fact.model_json_schema()
    body["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    body["$id"] = fact.TYPE
    return body


def _topic(row: Topic) -> Document:
    return {
        "name": row.pattern,
        "key": row.key,
        "partitions": row.partitions,
        "writer": row.writer,
        "readers": list(row.readers),
        "events": [fact.TYPE for fact in row.facts],
        "config": row.config(),
        "about": row.about,
    }


def _asyncapi() -> Document:
    """Return the AsyncAPI 3.0 document of the bus."""
    channels: Document = {}
    operations: Document = {}
    for row in TOPICS:
        name = row.pattern.replace("{", "").replace("}", "")
        channels[name] = {
            "address": row.pattern,
            "description": row.about,
            "messages": {f.__name__: {"$ref": f"#/components/messages/{f.__name__}"} for f in row.facts},
        }
        if "{" in row.pattern:
            parameter = row.pattern[row.pattern.index("{") + 1 : -1]
            channels[name]["parameters"] = {parameter: {"description": f"Name of the {parameter.replace('_', ' ')}."}}
        operations[f"publish.{name}"] = {
            "action": "send",
            "channel": {"$ref": f"#/channels/{name}"},
            "title": f"{row.writer} publishes",
        }
    messages = {
        f.__name__: {
            "name": f.TYPE,
            "summary": (f.__doc__ or "").split("\n", maxsplit=1)[0],
            "contentType": "application/json",
            "payload": {"schemaFormat": "application/schema+json", "schema": {"$ref": f"./{dataschema(f.TYPE)}"}},
        }
        for f in FACTS
    }
    return {
        "asyncapi": "3.0.0",
        "info": {"title": "Mainstem", "version": "1", "license": {"name": "Apache-2.0"}},
        "channels": channels,
        "operations": operations,
        "components": {"messages": messages},
    }


def documents() -> Document:
    """Return every generated document by its path below `schemas/`."""
    return {
        **{dataschema(fact.TYPE): schema(fact) for fact in FACTS},
        "topics.json": [_topic(row) for row in TOPICS],
        "asyncapi.json": _asyncapi(),
    }


def write(folder: Path) -> None:
    """Write every document below `folder`; refuse a change that old readers or old events would not survive."""
    faults = _faults(folder)
    if faults:
        raise SystemExit("\n".join(["incompatible change; make a new version of the event instead:", *faults]))
    for path, document in documents().items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(orjson.dumps(document, option=_FORMAT))


def check(folder: Path) -> list[str]:
    """Return what is wrong with the committed documents: incompatible, out of date, missing or left over."""
    found = _faults(folder)
    expected = documents()
    for path, document in expected.items():
        target = folder / path
        if not target.exists():
            found.append(f"{path}: missing; run make schemas")
        elif target.read_bytes() != orjson.dumps(document, option=_FORMAT):
            found.append(f"{path}: out of date; run make schemas")
    present = {str(p.relative_to(folder)) for p in folder.rglob("*.json")}
    found += [f"{path}: no event has this schema" for path in sorted(present - set(expected))]
    return found


def _faults(folder: Path) -> list[str]:
    found = []
    for fact in FACTS:
        target = folder / dataschema(fact.TYPE)
        if target.exists():
            committed = orjson.loads(target.read_bytes())
            found += [f"{fact.TYPE}: {fault}" for fault in incompatibilities(committed, schema(fact))]
    return found


def main(arguments: list[str]) -> int:
    """Run the command line; return the exit code."""
    if arguments[:1] == ["--check"]:
        faults = check(Path(arguments[1]))
        sys.stderr.write("".join(f"{fault}\n" for fault in faults))
        return 1 if faults else 0
    write(Path(arguments[0]))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
