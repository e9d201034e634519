"""One feature definition, one fold: the same bits online, in backfill and in training.

Declare (`stream`, `feature_set`), compile (`FeatureSet.compile`, `load`), fold (`Engine`), and put the records of many
partitions into one order first (`HoldBack`). Nothing here does I/O, reads a clock or draws a random number.

What computes brings a compiler, a quarter of a second and 70 MB: it is loaded by who asks for it, while a process that
only reads definitions goes without.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from mainstem.feature_engine.batch import Aggregates, Batch, Rows
from mainstem.feature_engine.canonical import KERNEL
from mainstem.feature_engine.column_types import NULL, ColumnType, Kind, boolean, category, fixed, time
from mainstem.feature_engine.compiled import CompiledSet, load
from mainstem.feature_engine.errors import DefinitionError, SnapshotError
from mainstem.feature_engine.expressions import Stream, where, window
from mainstem.feature_engine.localtime import FIRST_INSTANT, LAST_INSTANT
from mainstem.feature_engine.merge import HoldBack, Released
from mainstem.feature_engine.sharding import Shard, index_name, shard_of
from mainstem.feature_engine.spec import FeatureSet, feature_set, stream, table, target

if TYPE_CHECKING:
    from mainstem.feature_engine.engine import Engine
    from mainstem.feature_engine.prepare import prepare
    from mainstem.feature_engine.rows import Assembler

#: What is loaded late, and from where.
_LATE = {"Engine": "engine", "prepare": "prepare", "Assembler": "rows"}

__all__ = [
    "FIRST_INSTANT",
    "KERNEL",
    "LAST_INSTANT",
    "NULL",
    "Aggregates",
    "Assembler",
    "Batch",
    "ColumnType",
    "CompiledSet",
    "DefinitionError",
    "Engine",
    "FeatureSet",
    "HoldBack",
    "Kind",
    "Released",
    "Rows",
    "Shard",
    "SnapshotError",
    "Stream",
    "boolean",
    "category",
    "feature_set",
    "fixed",
    "index_name",
    "load",
    "prepare",
    "shard_of",
    "stream",
    "table",
    "target",
    "time",
    "where",
    "window",
]

if not TYPE_CHECKING:  # for a type checker what is missing is missing

    def __getattr__(name: str) -> object:
        """Load what computes (PEP 562)."""
        if name not in _LATE:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        found: object = getattr(import_module(f"{__name__}.{_LATE[name]}"), name)
        globals()[name] = found  # a module of the same name would stand there
        return found
