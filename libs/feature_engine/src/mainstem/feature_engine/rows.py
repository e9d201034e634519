"""The last step: from the columns of a spine event and its aggregates to the features."""

from collections.abc import Callable, Mapping

import numpy as np

from mainstem.feature_engine.batch import Values
from mainstem.feature_engine.clocks import Clocks
from mainstem.feature_engine.columns import Dictionary, Encoder
from mainstem.feature_engine.compiled import CompiledSet
from mainstem.feature_engine.domains import domains
from mainstem.feature_engine.kernel import fold as kernel
from mainstem.feature_engine.kernel.fields import CODE, Floats, Ints
from mainstem.feature_engine.kernel.tables import Tables
from mainstem.feature_engine.programs import compile_rows


class RowProgram:
    """Computes the features of spine events whose aggregates are known; `zones` that it needs are appended."""

    def __init__(self, compiled: CompiledSet, zones: list[str]) -> None:
        definition = compiled.definition
        features = [feature.value for feature in definition.features]
        self._code = compile_rows(features, compiled.streams[compiled.spine], zones, definition.aggregates)
        self._tables = Tables([np.empty((0, 0), np.int64)] * CODE)

    def bind(self, number: Callable[[str, str], int]) -> None:
        """Compare with the numbers that the texts have now."""
        self._code.lay(self._tables, number)

    def values(self, clocks: Clocks, events: Ints, places: Ints, aggregates: Floats) -> Floats:
        """Return a row of features for each spine event; of all `events`, they are at these places."""
        values = np.empty((len(places), len(self._code.results)))
        kernel.finish(self._tables.given, clocks.table, events, places, aggregates, values, self._code.floats)
        return values


class Assembler:
    """Makes rows of aggregates that were computed elsewhere, by the shards of an engine."""

    def __init__(self, compiled: CompiledSet) -> None:
        of = domains(compiled.definition)
        dictionaries = {name: Dictionary() for name in set(of.values())}
        columns = compiled.streams[compiled.spine]
        zones: list[str] = []
        self._program = RowProgram(compiled, zones)
        self._clocks = Clocks(zones)
        self._encoder = Encoder(compiled.spine, columns, {name: dictionaries[of[name]] for name in of}, self._clocks)
        self._width = len(columns)
        self._program.bind(lambda column, text: dictionaries[of[column]].learn(text))

    def values(self, columns: Mapping[str, Values], aggregates: Floats) -> Floats:
        """Return the features of spine events, from their columns and (event, aggregate) values.

        The aggregates are in the order of `Definition.aggregates`. Raises ValueError unless each column has a value for
        each event.
        """
        self._encoder.check(columns, len(aggregates))
        events, places = np.empty((self._width, len(aggregates)), np.int64), np.arange(len(aggregates))
        if len(places):
            self._encoder.write(columns, events, places)
        return self._program.values(self._clocks, events, places, aggregates)
