"""Recorded sessions: both cameras losslessly, and all that fusing them again needs."""
