"""The last step: from the columns of a spine event and its aggregates to the features."""

from collections.abc import Mapping

import numpy as np

from mainstem.feature_engine.batch import Values, check_columns
from mainstem.feature_engine.clocks import Clocks
from mainstem.feature_engine.columns import Dictionary, instants_of, write_table
from mainstem.feature_engine.compiled import CompiledSet
from mainstem.feature_engine.domains import domains
from mainstem.feature_engine.kernel import fold as kernel
from mainstem.feature_engine.kernel.fields import Floats, Ints
from mainstem.feature_engine.programs import Code, compile_rows


class RowProgram:
    """Computes the features of spine events whose aggregates are known; `zones` that it needs are appended."""

    def __init__(self, compiled: CompiledSet, zones: list[str]) -> None:
        definition = compiled.definition
        features = [feature.value for feature in definition.features]
        self.code: Code = compile_rows(features, compiled.streams[compiled.spine], zones, definition.aggregates)
        size = len(self.code.instructions)
        self._scratch = np.empty(size, np.int64), np.empty(size)

    def values(self, clocks: Clocks, spine: Ints, aggregates: Floats) -> Floats:
        """Return a row of features for each line of the spine's table."""
        values = np.empty((len(spine), len(self.code.results)))
        program = self.code.program(clocks)
        kernel.finish(program, self.code.literals, spine, aggregates, values, self._scratch)
        return values


class Assembler:
    """Makes rows of aggregates that were computed elsewhere, by the shards of an engine."""

    def __init__(self, compiled: CompiledSet) -> None:
        self._spine, self._columns = compiled.spine, compiled.streams[compiled.spine]
        self._domains = domains(compiled.definition)
        self._dictionaries = {name: Dictionary() for name in set(self._domains.values())}
        zones: list[str] = []
        self._program = RowProgram(compiled, zones)
        self._clocks = Clocks(zones)
        self._instants = instants_of(self._columns) if zones else []
        self._program.code.bind(lambda column, text: int(self._encode(column, [text])[0]))

    def values(self, columns: Mapping[str, Values], aggregates: Floats) -> Floats:
        """Return the features of spine events, from their columns and (event, aggregate) values.

        The aggregates are in the order of `Definition.aggregates`. Raises ValueError unless each column has a value for
        each event.
        """
        check_columns(self._spine, self._columns, columns, len(aggregates))
        table, _ = write_table(self._columns, columns, len(aggregates), self._encode)
        self._clocks.note(table, self._instants)
        return self._program.values(self._clocks, table, aggregates)

    def _encode(self, column: str, texts: Values) -> Ints:
        return self._dictionaries[self._domains[column]].encode(texts)
