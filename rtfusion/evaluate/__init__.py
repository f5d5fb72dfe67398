"""What the commands measure with: metrics, scores, speed, the report of a run."""
