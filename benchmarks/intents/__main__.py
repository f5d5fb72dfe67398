"""``python -m benchmarks.intents``."""

import sys

from benchmarks.intents import SUITE

if __name__ == "__main__":
    sys.exit(SUITE.main())
