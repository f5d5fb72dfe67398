"""The encoder that stands in for CLIP: what it learns of sentences and pictures, its file, and what the loss makes of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the trainer needs torch: pip install -e '.[train]'")

from rtfusion_trainer import checkpoint  # noqa: E402
from rtfusion_trainer.losses.language import Prompts, direction_loss, text_directions, unit  # noqa: E402
from rtfusion_trainer.stand_in import training  # noqa: E402
from rtfusion_trainer.stand_in.facts import EXTRA, FACTS, NAMES, places, sentences  # noqa: E402
from rtfusion_trainer.stand_in.network import SIDE_PX, StandIn, load_stand_in, save_stand_in  # noqa: E402

from rtfusion.errors import ConfigError, ModelError  # noqa: E402
from tests.training_data import write_pairs  # noqa: E402


def test_sentences_say_the_facts_they_are_made_of() -> None:
    texts, said = sentences(np.random.default_rng(0), 300)
    for text, facts in zip(texts, said, strict=True):
        for name, value in zip(NAMES, facts, strict=True):
            if value and text not in dict(EXTRA):
                side = FACTS[name][0 if value > 0 else 1]
                assert any(words in text for words in side), (text, name)
    assert {-1.0, 0.0, 1.0} == set(np.unique(said))


def test_a_text_is_the_same_places_in_every_process_and_chinese_is_read_too() -> None:
    assert places("An infrared image") == places("an INFRARED image!")
    assert len(places("红外图像")) == 7
    assert places("") == places("!?")


def test_what_is_known_of_a_picture() -> None:
    random = np.random.default_rng(0)
    visible, thermal = np.full((2, SIDE_PX, SIDE_PX), 0.3, np.float32)
    thermal[20:40, 20:40] = 0.9
    pair = training.Seen(visible, thermal, np.full(len(NAMES), np.nan, np.float32))
    for _ in range(30):
        image, known = training.picture(random, pair)
        facts = dict(zip(NAMES, known, strict=True))
        assert image.shape == (SIDE_PX, SIDE_PX)
        assert 0 <= image.min() <= image.max() <= 1
        assert -1 <= facts["thermal"] <= 1
        assert np.isnan(facts["people"])
        assert (facts["bright"] > 0) == (image.mean() > 0.38)


def test_a_short_training_learns_the_words_and_the_band(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "SCENES", 1)
    monkeypatch.setattr(training, "BATCH", 12)
    data = write_pairs(tmp_path / "data")
    losses: list[float] = []
    made = training.train_stand_in(
        data, steps=60, seed=1, threads=1, log=lambda step, values: losses.append(values["texts"])
    )
    assert np.mean(losses[-10:]) < 0.85 * np.mean(losses[:10])
    said = dict(zip(NAMES, made.encode_text(["an infrared image"])[0].tolist(), strict=True))
    assert said["thermal"] == max(said.values())
    found = training.accuracy(made, training.drawn_pairs())
    assert set(found) <= set(NAMES)
    assert set(found) >= {"bright", "contrast"}
    save_stand_in(tmp_path / "encoder.pt", made, card={"seed": 1})
    images = torch.rand(2, 1, 40, 50)
    assert torch.equal(load_stand_in(tmp_path / "encoder.pt").encode_image(images), made.encode_image(images))


def test_the_loss_reaches_the_pixels() -> None:
    torch.manual_seed(0)
    encoder = StandIn().requires_grad_(False)
    torch.nn.init.normal_(encoder.words.weight)
    text = text_directions(encoder, Prompts(away=("a blurred image",)))
    pictures = torch.rand(3, 1, 64, 64, requires_grad=True)
    fused, visible, thermal = (encoder.encode_image(picture[None]) for picture in pictures)
    direction_loss(fused=fused, visible=visible, thermal=thermal, text=text).sum().backward()
    assert float(pictures.grad[0].abs().sum()) > 0


def test_an_antonym_is_a_second_direction() -> None:
    class Table:
        def encode_text(self, texts):
            table = {"v": (1.0, 0, 0, 0), "t": (0, 1.0, 0, 0), "o": (0, 0, 1.0, 0), "a": (0, 0, 0, 1.0)}
            return torch.tensor([table[text] for text in texts])

    prompts = Prompts(visible=("v",), thermal=("t",), objective=("o",), away=("a",))
    text = text_directions(Table(), prompts)
    assert torch.allclose(text.from_away, unit(torch.tensor([0.0, 0, 1, -1])))
    fused, visible, thermal = torch.eye(4)[2:3], torch.eye(4)[0:1], torch.eye(4)[1:2]
    # the way is the first direction itself, and half of the second: (1 + 1/2) / 2 for each source
    value = direction_loss(fused=fused, visible=visible, thermal=thermal, text=text)
    assert value.item() == pytest.approx(2 * (1 - 0.75) / 2, abs=1e-6)


def test_a_wrong_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="rtfusion train encoder makes one"):
        load_stand_in(tmp_path / "none.pt")
    checkpoint.write(tmp_path / "old.pt", {"schema": 1, "facts": ["thermal"], "state": {}})
    with pytest.raises(ModelError, match="other facts"):
        load_stand_in(tmp_path / "old.pt")
    checkpoint.write(tmp_path / "bad.pt", {"schema": 1, "facts": list(NAMES), "state": {}})
    with pytest.raises(ModelError, match="no encoder of this version"):
        load_stand_in(tmp_path / "bad.pt")


def test_labels_of_other_pairs_are_refused(tmp_path: Path) -> None:
    data = write_pairs(tmp_path / "data")
    (tmp_path / "labels.json").write_text('{"elsewhere": {"both": [["person", 4, 4, 8, 8]]}}')
    with pytest.raises(ConfigError, match="name none of the pairs below"):
        training.seen_pairs(data, labels=tmp_path / "labels.json")
