"""The answers of a batch as a Parquet file, each beside what its row said of itself."""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from mainstem.cli.batch.door import Answered
from mainstem.events.errors import Rejected
from mainstem.serving.blocks import ids_from

#: What stands of each answer: the probability of the positive class, the version, the id of the event that records it.
_ANSWER: Final = [("score", pa.float64()), ("version", pa.int64()), ("prediction_id", pa.string())]
#: Of rows whose features were looked up: the instant they are of, records applied by then, sources that are too old.
_LOOKED_UP: Final = [("features_at", pa.string()), ("features_applied", pa.int64()), ("stale", pa.string())]
#: Columns in which a value stands again and again.
_REPEATED: Final = ["version", *(name for name, _ in _LOOKED_UP)]


class Scores:
    """The answers to some rows, by the place of each."""

    def __init__(self, rows: int) -> None:
        names = [name for name, _ in (*_ANSWER, *_LOOKED_UP)]
        self._columns = {name: np.full(rows, None, object) for name in names}

    def put(self, places: npt.NDArray[np.intp], answer: Answered) -> None:
        """Put an answer where its rows are."""
        ids = None if answer.prediction is None else ids_from(answer.prediction, len(places))
        told = (answer.scores, answer.version, ids, answer.features_at, answer.features_applied, answer.stale)
        for column, value in zip(self._columns.values(), told, strict=True):
            column[places] = value

    def of(self, column: str, kind: pa.DataType) -> pa.Array:
        """Return a column; null is what was not told."""
        return pa.array(self._columns[column], kind)


class ScoredFile:
    """A Parquet file: columns of the input, then those of the answers, in the order of the input.

    Use `with`. The file stands under its name only when the block has ended well; until then it is `<name>.partial`.
    """

    def __init__(self, file: Path, kept: pa.Schema, *, looked_up: bool, about: Mapping[str, str]) -> None:
        """Say of itself what it is `about`. Raises Rejected when a column of the input has the name of an answer's."""
        self._file = file
        self._partial = file.with_name(f"{file.name}.partial")
        self._kept: Sequence[str] = kept.names
        self._answers = [*_ANSWER, *(_LOOKED_UP if looked_up else [])]
        if taken := [name for name, _ in self._answers if name in self._kept]:
            raise Rejected(f"column {taken[0]!r} of the input has the name of one of the answers; give it another one")
        said = {f"mainstem.{name}": value for name, value in about.items()}
        self._schema = pa.schema([*kept, *self._answers], metadata=said)
        self._beside = ThreadPoolExecutor(1)

    def __enter__(self) -> Self:
        """Begin the file; raise Rejected when it cannot be written where it is to be."""
        with self._writable():
            self._writer = pq.ParquetWriter(self._partial, self._schema, compression="zstd", use_dictionary=_REPEATED)
        self._written: Future[None] = self._beside.submit(lambda: None)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._beside.shutdown()
        try:
            with self._writable():
                self._written.result()
                self._writer.close()
        except Rejected:
            self._partial.unlink()
            if kind is None:
                raise
            return  # what went wrong before is told
        if kind is None:
            self._partial.replace(self._file)
        else:
            self._partial.unlink()

    def write(self, rows: pa.RecordBatch, scores: Scores) -> None:
        """Append rows with their answers, beside what comes next. Raises Rejected when those before were not taken."""
        with self._writable():
            self._written.result()
        self._written = self._beside.submit(self._append, rows, scores)

    def _append(self, rows: pa.RecordBatch, scores: Scores) -> None:
        answers = [scores.of(name, kind) for name, kind in self._answers]
        kept = [rows[name] for name in self._kept]
        self._writer.write_batch(pa.record_batch([*kept, *answers], schema=self._schema))

    @contextmanager
    def _writable(self) -> Iterator[None]:
        try:
            yield
        except OSError as fault:
            why = fault.strerror or fault
            what = f"{self._file} cannot be written ({why})"
            raise Rejected(f"{what}; name a file in a folder that you may write, with room for it") from fault
