"""All sentences, from the modules that say them."""

from tests.conformance import calls, datatypes, extensions, http_rules, stub_rules  # noqa: F401  # they enter what they say
from tests.conformance.sentences import SENTENCES, trials

__all__ = ["SENTENCES", "trials"]
