"""What is known of a model that was admitted, and how it is said from process to process."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self


@dataclass(frozen=True, slots=True)
class Tensor:
    """An input or output: its name, ONNX's name of its datatype, its shape with None for the number of rows."""

    name: str
    datatype: str
    shape: tuple[int | None, ...]


@dataclass(frozen=True, slots=True)
class Admitted:
    """A model that passed the gate; every text that stood in the file is printable ASCII, all else escaped.

    `opsets` is by domain, `operators` counts nodes by qualified name ("ai.onnx.ml.TreeEnsemble").
    """

    digest: str
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    opsets: Mapping[str, int]
    operators: Mapping[str, int]
    metadata: Mapping[str, str]

    def encode(self) -> str:
        """Return it as JSON."""
        return json.dumps({"admitted": asdict(self)})

    @classmethod
    def decode(cls, document: Mapping[str, Any], digest: str) -> Self:
        """Return what was encoded; raise ValueError, KeyError or TypeError when it is of another file, or malformed."""
        if document["digest"] != digest:
            raise ValueError("the verdict is on another file")
        given = {**document, **{side: tuple(map(_tensor, document[side])) for side in ("inputs", "outputs")}}
        return cls(**given)


def _tensor(document: Mapping[str, Any]) -> Tensor:
    return Tensor(str(document["name"]), str(document["datatype"]), tuple(document["shape"]))


def shown(text: object, most: int = 120) -> str:
    """Return a text of the file, or one that may quote it, as printable ASCII of bounded length."""
    plain = str(text)[: most + 1].encode("unicode_escape").decode("ascii")
    return plain if len(plain) <= most else f"{plain[:most]}..."
