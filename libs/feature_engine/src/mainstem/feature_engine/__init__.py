"""One feature definition, one fold: the same bits online, in backfill and in training.

Declare (`stream`, `feature_set`), compile (`FeatureSet.compile`, `load`), fold (`Engine`), and put the records of many
partitions into one order first (`HoldBack`). Nothing here does I/O, reads a clock or draws a random number.
"""

from mainstem.feature_engine.batch import Batch, Rows
from mainstem.feature_engine.canonical import KERNEL
from mainstem.feature_engine.column_types import NULL, ColumnType, Kind, boolean, category, fixed, time
from mainstem.feature_engine.compiled import CompiledSet, load
from mainstem.feature_engine.engine import Engine
from mainstem.feature_engine.errors import DefinitionError, SnapshotError
from mainstem.feature_engine.merge import HoldBack, Released
from mainstem.feature_engine.spec import FeatureSet, Stream, feature_set, stream

__all__ = [
    "KERNEL",
    "NULL",
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
    "SnapshotError",
    "Stream",
    "boolean",
    "category",
    "feature_set",
    "fixed",
    "load",
    "stream",
    "time",
]
