"""The matcher that finds the same things in both bands: its views of registered pairs, a small network, training, export."""
