"""The standing check: published rows are evaluated again from the log, by code that the fold does not run.

`decoding` reads accepted payloads, `log` puts records, rows and journal in their places, `checker` holds rows against
the reference evaluator, `running` does so for ever beside the fold. None of it may import the engine, the hold-back
merge or the decoder of the contracts: what agrees with itself proves nothing.
"""

from mainstem.features.check.running import check_rows

__all__ = ["check_rows"]
