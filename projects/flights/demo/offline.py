"""The year computed offline, at once and by the training side's own command, held against what was served."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from projects.flights.demo.books import FEWEST, Books, scores
from projects.flights.demo.proof import mainstem
from sklearn.metrics import roc_auc_score

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Offline:
    """How the rows computed offline, and what the versions in service make of them, differ from what was served.

    `auc_gap` is the largest difference of the AUC in a month, on the labels that a backfill gives.
    """

    rows: int
    cells: int
    cells_differing: int
    scores: int
    scores_differing: int
    auc_gap: float


async def backfill(project: Path, file: Path) -> pa.Table:
    """Have all rows computed anew from the log, with their labels; raise RuntimeError when that cannot be done."""
    file.parent.mkdir(parents=True, exist_ok=True)
    done = await mainstem("feature", "backfill", "--project", str(project), "--out", str(file))
    if not done.done:
        raise RuntimeError(f"{done.command}: {done.text}")
    return pq.read_table(file)


def compare(books: Books, table: pa.Table, names: Sequence[str], models: Mapping[int, bytes]) -> Offline:
    """Hold a backfill of the whole log against the books; `models` are the versions in service, as ONNX.

    Raises ValueError when it has other rows than were published.
    """
    published, served = books.rows, books.stream
    spine = np.array(table["spine_id"].to_pylist(), "S32")
    theirs, ours = np.argsort(spine), np.argsort(published["spine_id"])
    if not np.array_equal(spine[theirs], published["spine_id"][ours]):
        raise ValueError(f"the backfill has {len(spine)} rows, {len(ours)} were published; they are not of the same")
    offline = np.empty_like(ours)
    offline[ours] = theirs
    values = np.column_stack([table[name].to_numpy() for name in names])[offline]
    labels = table["label"].cast(pa.float64()).to_numpy()[offline]
    by_id = np.argsort(published["id"])
    row = by_id[np.searchsorted(published["id"][by_id], served["row"])]
    score = np.empty(len(row))
    for version in np.unique(served["version"]).tolist():
        chosen = served["version"] == version
        score[chosen] = scores(models[version], values[row[chosen]])
    return Offline(
        rows=len(values),
        cells=values.size,
        cells_differing=int((values.view(np.uint64) != published["values"].view(np.uint64)).sum()),
        scores=len(score),
        scores_differing=int((score != served["score"]).sum()),
        auc_gap=max(_gaps(served["time_us"], labels[row], score, served["score"]), default=0.0),
    )


def _gaps(times_us: npt.NDArray[np.int64], labels: Floats, offline: Floats, served: Floats) -> list[float]:
    """Return by how much the AUC offline differs from the one served, for each month with enough labels."""
    months = times_us.astype("datetime64[us]").astype("datetime64[M]")
    found = []
    for month in np.unique(months):
        inside = (months == month) & ~np.isnan(labels)
        if inside.sum() >= FEWEST:
            auc = [float(roc_auc_score(labels[inside], score[inside])) for score in (offline, served)]
            found.append(abs(auc[0] - auc[1]))
    return found
