"""Makes the numbers: the measuring contract (`timing`) and the suites (`speed`, `quality`)."""
