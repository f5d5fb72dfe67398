"""``python -m benchmarks.robust``."""

import sys

from benchmarks.robust import SUITE

if __name__ == "__main__":
    sys.exit(SUITE.main())
