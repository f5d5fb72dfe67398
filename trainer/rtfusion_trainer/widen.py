"""A larger student that starts as a smaller one: it computes the same, and its new channels have yet to find what they are for.

The smaller one's weights stand in the corner of the larger one's. New channels see everything and are seen by nothing that was
there before: their outgoing weights are 0, as are all of further layers, which add to what passes them. Training changes that
from the first step on (after Net2Net, Chen et al. 2016, with zeros instead of copies).
"""

from __future__ import annotations

import torch

from rtfusion.errors import ConfigError
from rtfusion_trainer.config import Network
from rtfusion_trainer.student import Student


def widen(smaller: Student, network: Network) -> Student:
    """A student of this size that computes what ``smaller`` does.

    Raises:
        ConfigError: it would be smaller in some respect, or see differently far.
    """
    old = smaller.network
    fits = network.width >= old.width and network.depth >= old.depth and network.context >= old.context
    if not fits or network.dilations != old.dilations:
        raise ConfigError(f"a student of {old} cannot become one of {network}: every size has to be at least as large")
    wider = Student(network)
    weights = smaller.state_dict()
    with torch.no_grad():
        for name, parameter in wider.named_parameters():
            if name not in weights:
                parameter.zero_()
                continue
            parameter[: len(weights[name])] = 0  # what the old outputs make of new inputs
            parameter[tuple(slice(length) for length in weights[name].shape)] = weights[name]
    return wider
