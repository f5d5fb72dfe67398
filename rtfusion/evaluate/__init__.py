"""Measuring for the commands: metrics, scores, speed, the report of a run."""
