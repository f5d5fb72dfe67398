"""The head that finds targets: labels of people and vehicles, a small network, its training and its export."""
