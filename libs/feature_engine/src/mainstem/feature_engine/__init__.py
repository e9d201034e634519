"""One feature definition, one fold: the same bits online, in backfill and in training.

Declare (`stream`, `feature_set`), compile (`FeatureSet.compile`, `load`), fold (`Engine`), and put the records of many
partitions into one order first (`HoldBack`). Nothing here does I/O, reads a clock or draws a random number.
"""

from mainstem.feature_engine.batch import Aggregates, Batch, Rows
from mainstem.feature_engine.canonical import KERNEL
from mainstem.feature_engine.column_types import NULL, ColumnType, Kind, boolean, category, fixed, time
from mainstem.feature_engine.compiled import CompiledSet, load
from mainstem.feature_engine.engine import Engine
from mainstem.feature_engine.errors import DefinitionError, SnapshotError
from mainstem.feature_engine.expressions import Stream, where, window
from mainstem.feature_engine.localtime import FIRST_INSTANT, LAST_INSTANT
from mainstem.feature_engine.merge import HoldBack, Released
from mainstem.feature_engine.prepare import prepare
from mainstem.feature_engine.rows import Assembler
from mainstem.feature_engine.sharding import Shard, index_name, shard_of
from mainstem.feature_engine.spec import FeatureSet, feature_set, stream, table, target

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
