"""A request and its answer, whatever transport carries them."""

from collections.abc import Collection, Mapping, Sequence
from typing import Final

import msgspec

from mainstem.inference.errors import BadRequest, Unsupported
from mainstem.inference.tensors import Signature, Tensor

Parameters = Mapping[str, bool | int | float | str]


#: Parameters of tensors by which extensions that are not spoken here ask for something else than the tensor.
_FOREIGN: Final = frozenset(("classification", "shared_memory_region"))


class Wanted(msgspec.Struct, frozen=True):
    """An output that is asked for, and whether as raw bytes."""

    name: str
    raw: bool


class Request(msgspec.Struct, frozen=True):
    """What is asked of a model."""

    inputs: Sequence[Tensor]
    id: str | None = None
    parameters: Parameters = {}
    #: None for all outputs, each as `raw` says.
    outputs: Sequence[Wanted] | None = None
    raw: bool = False

    def wanted(self, signature: Signature) -> Sequence[Wanted]:
        """Return the outputs to give, in the order they were asked for; raise BadRequest for one that there is not."""
        names = [spec.name for spec in signature.outputs]
        if self.outputs is None:
            return [Wanted(name, self.raw) for name in names]
        for output in self.outputs:
            if output.name not in names:
                raise BadRequest(f"there is no output {output.name!r}; the model gives {names}")
        if len({output.name for output in self.outputs}) != len(self.outputs):
            raise BadRequest(f"an output is asked for twice: {[output.name for output in self.outputs]}")
        return self.outputs


class Answer(msgspec.Struct, frozen=True):
    """What a model says: its outputs as they were asked for."""

    model: str
    version: str
    id: str
    outputs: Sequence[tuple[Tensor, bool]]  #: each with whether it is given as raw bytes
    parameters: Parameters = {}
    #: Where its trace goes on, for who measures; no client is told.
    traceparent: bytes | None = None


def refuse_foreign(name: str, parameters: Collection[str]) -> None:
    """Raise Unsupported when the parameters of a tensor ask for what would not be the tensor."""
    if parameters and not _FOREIGN.isdisjoint(parameters):
        foreign = sorted(_FOREIGN.intersection(parameters))
        raise Unsupported(
            f"tensor {name!r} has the parameter {foreign[0]!r}, which this server does not speak; leave it out"
        )
