"""The model at work: ONNX in, probabilities out."""

from collections.abc import Iterable, Mapping
from math import inf
from time import monotonic
from typing import Final

import numpy as np
import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as onnx_errors

from mainstem.events.errors import Rejected
from mainstem.inference.errors import DeadlineExceeded
from mainstem.serving.entities import Floats

#: Name of the one input, float64 [rows, features], NaN = missing.
INPUT = "features"
#: Name of the one output, float64 [rows, 2]: probability of the negative and of the positive class.
OUTPUT = "probabilities"
_OUTPUTS = [OUTPUT]
#: Past this many rows a tree ensemble changes its strategy and a run costs more per row.
CHUNK = 64

#: What the runtime raises for a model that it cannot load, or run on some rows.
RUN_FAULTS: Final[tuple[type[Exception], ...]] = (
    RuntimeError,
    *(kind for kind in vars(onnx_errors).values() if isinstance(kind, type) and issubclass(kind, Exception)),
)
#: Of parts that were run: none failed.
NO_FAULTS: Mapping[int, str] = {}


class BadSignature(Rejected):
    """The bytes are no ONNX model, or one with other inputs or outputs than the deployment says."""


class RanOut(DeadlineExceeded):
    """The time of a call was over when so many of its `rows` were done."""

    def __init__(self, rows: int, of: int) -> None:
        super().__init__(f"the time was over after {rows} of {of} rows; wait longer, or send them in parts")
        self.rows = rows


class Model:
    """A loaded model. One thread: a hand-over to another costs more than the model itself."""

    def __init__(self, onnx: bytes, width: int) -> None:
        """Load the model and try it on one row; raise BadSignature when it does not take `width` inputs."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        # Whatever fails is raised; a line of the runtime's own for each would let callers fill the log.
        options.log_severity_level = 4
        self.width = width
        try:
            self._session = onnxruntime.InferenceSession(onnx, options, providers=["CPUExecutionProvider"])
            self._check_names()
            # What the wrapper around it adds to each call is a third of a small model's time.
            self._raw_run = getattr(self._session, "_sess", self._session).run
            probe = self.probabilities(np.zeros((1, width)))
        except RUN_FAULTS as fault:
            raise BadSignature(f"the model does not load and take {width} inputs: {fault}") from fault
        if probe.dtype != np.float64 or probe.shape != (1, 2) or not np.isfinite(probe).all():
            raise BadSignature(f"a row of zeros gives {probe.dtype} {probe.tolist()}, not two finite float64")

    def probabilities(self, rows: Floats, until: float = inf) -> Floats:
        """Return float64 [rows, 2] for float64 [rows, width].

        That a row's result does not depend on the others is the model's to keep; the gate has tried it (ADR 20).
        Raises RanOut when it is later than `until` (s, monotonic) and rows are left.
        """
        if 0 < len(rows) <= CHUNK:
            return self._run(rows)
        found = [np.empty((0, 2))]
        for at in range(0, len(rows), CHUNK):
            if monotonic() > until:
                raise RanOut(at, len(rows))
            found.append(self._run(rows[at : at + CHUNK]))
        return np.concatenate(found)

    def probabilities_apart(self, parts: Iterable[Floats]) -> tuple[Floats, dict[int, str]]:
        """Run each part of rows that failed together by itself.

        Return the probabilities below each other, NaN where a part fails again, and why it does, by its place.
        """
        found, why = [np.empty((0, 2))], {}
        for place, rows in enumerate(parts):
            try:
                found.append(self.probabilities(rows))
            except RUN_FAULTS as fault:
                found.append(np.full((len(rows), 2), np.nan))
                why[place] = str(fault)
        return np.concatenate(found), why

    def _run(self, rows: Floats) -> Floats:
        found: Floats = self._raw_run(_OUTPUTS, {INPUT: rows}, None)[0]
        if len(found) != len(rows):
            raise RuntimeError(f"the model gives {len(found)} rows for {len(rows)}")
        return found

    def _check_names(self) -> None:
        taken = [(i.name, i.type, i.shape[-1]) for i in self._session.get_inputs()]
        if taken != [(INPUT, "tensor(double)", self.width)]:
            raise BadSignature(f"the model takes {taken}, not one float64 {INPUT!r} of width {self.width}")
        given = [output.name for output in self._session.get_outputs()]
        if OUTPUT not in given:
            raise BadSignature(f"the model gives {given}, not {OUTPUT!r}")
