"""The gate: a candidate is compared with the incumbent on 10,000 rows and judged, against the bare formula."""

import numpy as np
from scipy.stats import norm, rankdata
from tests.bench.clock import RUNS, Figure, spend
from tests.bench.stage import MODEL
from tests.bench.stage import Stage as Servers

from mainstem.registry.domain import Evidence, GateResult, Lineage, Stage, Version, judge
from mainstem.training.engine import delong_paired

ROWS, TIMES = 10_000, 20


def registry(stage: Servers) -> Figure:
    """Judge again and again."""
    rng = np.random.default_rng(0)
    y = (rng.random(ROWS) < 0.25).astype(np.int64)
    new, old = (np.clip(0.5 * y + rng.normal(0.3, 0.2, ROWS), 0, 1) for _ in range(2))
    gates = stage.definition.models[MODEL].gates
    nobody = Lineage(frozenset(), frozenset(), frozenset())
    incumbent = Version(MODEL, 1, "sha256:1", Stage.PRODUCTION, nobody, (), None)

    def judged() -> list[GateResult]:
        paired = delong_paired(y, new, old, gates.confidence)
        compared = {"onnx": incumbent.onnx, "rows": ROWS, "confidence": gates.confidence, **paired._asdict()}
        figures = {"evaluation": {"n": ROWS, "auc": 0.9, "ece": 0.01}, "parity": {"rows": ROWS, "flips": 0}}
        return judge(Evidence.parse({**figures, "incumbent": compared}), incumbent, gates)

    figure = Figure("registry", f"a gate's judgement on {ROWS:,} rows", "memory")
    for _ in range(RUNS):
        ours = spend(lambda: [judged() for _ in range(TIMES)], TIMES)
        bare = spend(lambda: [_formula(y, new, old, gates.confidence) for _ in range(TIMES)], TIMES)
        figure.add(ours, {"the formula in numpy and scipy": bare})
    return figure


def _formula(y: np.ndarray, new: np.ndarray, old: np.ndarray, confidence: float) -> tuple[float, float]:
    """Return the interval of the difference after DeLong, by midranks (Sun and Xu, 2014)."""
    positive = y == 1
    m, n = positive.sum(), (~positive).sum()
    tenth, ten = [], []
    for p in (new, old):
        ranks = rankdata(p)
        tenth.append((ranks[positive] - rankdata(p[positive])) / n)
        ten.append(1 - (ranks[~positive] - rankdata(p[~positive])) / m)
    s = np.cov(tenth) / m + np.cov(ten) / n
    difference = tenth[0].mean() - tenth[1].mean()
    reach = norm.ppf(0.5 + confidence / 2) * np.sqrt(s[0, 0] + s[1, 1] - 2 * s[0, 1])
    return difference - reach, difference + reach
