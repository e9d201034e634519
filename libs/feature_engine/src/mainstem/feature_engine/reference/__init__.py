"""A second reading of the feature definitions: one cell at a time, over the records that were applied before.

It takes the specification as JSON and shares no code with the fold: it decodes values, evaluates expressions, cuts
windows and judges lateness by itself. What the fold computes is held against it, by tests and by the standing check;
and since it looks at the records themselves, it can list those that a value rests on.
"""

from mainstem.feature_engine.reference.aggregates import Applied
from mainstem.feature_engine.reference.evaluator import Contribution, Reference

__all__ = ["Applied", "Contribution", "Reference"]
