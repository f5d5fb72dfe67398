"""The method is what it was when it was held against the released code: the figures of `tests.trainer.agreement`, recorded."""

from __future__ import annotations

import json
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="the trainer needs torch: pip install -e '.[train]'")

from rtfusion_trainer.torchvision_shim import ensure_torchvision  # noqa: E402

from tests.trainer import agreement  # noqa: E402

RELATIVE, ABSOLUTE = 2e-4, 2e-5
"""Engines of convolutions differ by so much between processors; what the parts of the method differ by is far more."""


@pytest.fixture(scope="module")
def found() -> dict[str, Any]:
    return agreement.figures()


@pytest.fixture(scope="module")
def recorded() -> dict[str, Any]:
    values: dict[str, Any] = json.loads(agreement.FILE.read_text(encoding="utf-8"))
    return values


def assert_agrees(found: Any, recorded: Any) -> None:
    if isinstance(recorded, dict):
        assert found.keys() == recorded.keys()
        for name, value in recorded.items():
            assert_agrees(found[name], value)
    else:
        assert found == pytest.approx(recorded, rel=RELATIVE, abs=ABSOLUTE)


def test_the_networks_have_the_published_size(found: dict[str, Any]) -> None:
    assert found["parameters"] == {"ldfusion": 5_776_977, "ldlite": 652_385}


@pytest.mark.parametrize("part", ["outputs", "terms", "gradient lengths", "entropy bits", "features"])
def test_every_part_gives_what_it_gave(part: str, found: dict[str, Any], recorded: dict[str, Any]) -> None:
    assert_agrees(found[part], recorded[part])


def test_tokens_and_preprocessing_are_open_clips(recorded: dict[str, Any]) -> None:
    if ensure_torchvision() == "absent":
        pytest.skip("torchvision is not installed: pip install -e '.[train]'")
    pytest.importorskip("open_clip", reason="open_clip is not installed: pip install -e '.[train]'")
    found = agreement.clip_figures()
    assert found["tokens"] == recorded["clip"]["tokens"]
    assert_agrees(found["preprocessing"], recorded["clip"]["preprocessing"])


def test_a_broken_term_would_be_seen(found: dict[str, Any], recorded: dict[str, Any]) -> None:
    halved = {**found["terms"], "patch": found["terms"]["patch"] * 1.001}
    with pytest.raises(AssertionError):
        assert_agrees(halved, recorded["terms"])
