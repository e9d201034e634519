"""Inputs made from inputs: seeded, and led by what came of those before."""

from collections.abc import Sequence
from random import Random

_NUMBERS = [b"0", b"-1", b"1e999", b"NaN", b"null", b"18446744073709551616", b"2147483648", b"65536", b"0.1", b"true"]


class Mutator:
    """Makes the next input from a corpus; one that led to something new joins it."""

    def __init__(self, corpus: Sequence[bytes], words: Sequence[bytes], seed: int) -> None:
        self.random = Random(seed)
        self._corpus = list(corpus)
        self._words = [*words, *_NUMBERS]
        self._seen: set[str] = set()

    @property
    def outcomes(self) -> int:
        """Return how many different things came of the inputs."""
        return len(self._seen)

    def next(self) -> bytes:
        """Return another input."""
        found = self.random.choice(self._corpus)
        for _ in range(self.random.choice((0, 1, 1, 1, 2, 3, 6))):
            found = self._changed(found)
        return found

    def learn(self, given: bytes, outcome: str) -> None:
        """Keep an input that led to something new."""
        if outcome not in self._seen:
            self._seen.add(outcome)
            self._corpus.append(given)

    def _changed(self, given: bytes) -> bytes:
        begin = self.random.randint(0, len(given))
        end = min(len(given), begin + self.random.choice((0, 1, 1, 2, 4, 8, 64)))
        return given[:begin] + self._put(given, given[begin:end]) + given[end:]

    def _put(self, given: bytes, taken: bytes) -> bytes:
        """Return what comes in the place of what was taken."""
        match self.random.randrange(6):
            case 1:
                return self.random.randbytes(self.random.choice((1, 1, 2, 4)))
            case 2:
                return self.random.choice(self._words)
            case 3:
                return taken * self.random.choice((0, 0, 2, 3, 50, 2_000))
            case 4:
                other = self.random.choice(self._corpus)
                begin = self.random.randint(0, len(other))
                return other[begin : begin + self.random.choice((1, 8, 64, 1_000))]
            case 5:
                return bytes(byte ^ (1 << self.random.randrange(8)) for byte in taken)
            case _:
                return given
