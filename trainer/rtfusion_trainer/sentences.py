"""The text tower of a CLIP model as an encoder of sentences, for ``rtfusion say --clip-weights``."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from rtfusion_trainer.losses.clip import load_clip

_BATCH = 64


class ClipSentences:
    """Vectors of sentences by an open_clip model from a local file; an `rtfusion.intents.encoders.Encoder`.

    CLIP was made of English captions: of other languages it makes little.

    Raises:
        ConfigError: open_clip is not installed, there are no weights, no such model, or it would need files from a hub.
        ModelError: the weights cannot be read or are not this model's.
    """

    name = "clip"
    resolver: Literal["encoder", "clip"] = "clip"

    def __init__(self, weights: Path, *, model: str | None = None) -> None:
        self._clip = load_clip(weights, model=model)
        digest = hashlib.sha256(str(model).encode())
        for path in sorted(weights.iterdir()) if weights.is_dir() else [weights]:
            if path.is_file():
                digest.update(path.read_bytes())
        self.fingerprint = digest.hexdigest()

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Vectors of shape (sentences, dimensions), of length 1."""
        batches = [self._clip.encode_text(texts[at : at + _BATCH]) for at in range(0, len(texts), _BATCH)]
        vectors = np.concatenate([batch.cpu().numpy() for batch in batches]).astype(np.float32)
        return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-6)
