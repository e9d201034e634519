"""How much a model may be, and how much finding that out may take."""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The limits of the gate; a file at a limit passes it."""

    #: Bytes of the file.
    bytes: int = 32 << 20
    #: Nodes of all its graphs together.
    nodes: int = 20_000
    #: Messages of all kinds in the file, as the format nests them.
    parts: int = 400_000
    #: Nodes of all trees and values of their leaves, together: loading takes the runtime up to 370 bytes for each.
    trees: int = 950_000
    #: Graphs within graphs.
    depth: int = 8
    #: Bytes of one tensor of which the size can be told without a run, and of memory over that of an empty sandbox.
    memory: int = 384 << 20
    #: Processor time over that of an empty sandbox, in seconds.
    seconds: float = 1.4
    #: Whether it must answer any number of rows, as approved models do. Else any dimension may be left open, and what
    #: it gives is not looked at.
    rows: bool = True


#: Numbers of rows on which a model is tried, one after the other: every one that serving may give it at once.
ROWS: Final = range(1, 65)
#: However busy the machine is, a sandbox has to be done by then.
PATIENCE_S: Final = 30.0
#: A verdict has no more bytes.
LONGEST_VERDICT: Final = 1 << 20
