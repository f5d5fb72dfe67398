"""``python -m rtfusion`` is the console script ``rtfusion``."""

from __future__ import annotations

from rtfusion.cli import main

if __name__ == "__main__":
    main()
