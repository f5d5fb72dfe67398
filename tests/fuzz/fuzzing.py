"""How many bad inputs, and bytes that are almost right.

The suite tries some; ``scripts/fuzz`` ten thousand of each kind.
"""

from __future__ import annotations

import os
from random import Random

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "60"))
fuzzed = settings(
    max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck), database=None, print_blob=True
)


def randoms() -> st.SearchStrategy[Random]:
    """A source of random numbers: for inputs that would take longer to draw one by one than to try."""
    return st.integers(0, 2**64 - 1).map(Random)


def damaged(original: bytes) -> st.SearchStrategy[bytes]:
    """Bytes with some of them changed, put in, cut out, repeated, or cut off."""
    return randoms().map(lambda random: _damage(bytearray(original), random))


def _damage(data: bytearray, random: Random) -> bytes:
    for _ in range(random.randint(1, 8)):
        at = random.randrange(max(1, len(data)))
        kind = random.choice(["change", "change", "insert", "cut", "repeat", "end"])
        if kind == "change" and data:
            data[at] = random.randrange(256)
        elif kind == "insert":
            data[at:at] = random.randbytes(random.randint(0, 12))
        elif kind == "cut":
            del data[at : at + random.randint(1, 40)]
        elif kind == "repeat":
            data[at:at] = data[at : at + random.randint(1, 40)]
        elif random.random() < 0.3:
            del data[at:]
    return bytes(data)
