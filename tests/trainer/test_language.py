from __future__ import annotations

import json
import math
import socket
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install -e '.[train]'")

from rtfusion_trainer.affine import RandomAffine, draw, warp  # noqa: E402
from rtfusion_trainer.losses.language import (  # noqa: E402
    LanguagePreset,
    TextDirections,
    cut_patches,
    direction_loss,
    embedding_loss,
    entropy_bits,
    language_terms,
    patch_direction_loss,
    text_directions,
    unit,
)

from rtfusion.errors import ConfigError, ModelError  # noqa: E402

STILL = RandomAffine(rotation_deg=0.0, shift_x=0.0, shift_y=0.0, scale=(1.0, 1.0), shear_deg=0.0)
ROOT_HALF = math.sqrt(0.5)


class StubEncoder:
    """Embeds a picture as (mean of its left half, mean of its right half, 0.1) and texts from a table."""

    TABLE: ClassVar = {
        "visible": (2.0, 0.0, 0.0),
        "thermal": (0.0, 3.0, 0.0),
        "wanted": (0.0, 0.0, 5.0),
        "too": (0.0, 0.0, 1.0),
    }

    def encode_image(self, images: Any) -> Any:
        half = images.shape[-1] // 2
        left, right = images[..., :half].mean(dim=(1, 2, 3)), images[..., half:].mean(dim=(1, 2, 3))
        return torch.stack((left, right, torch.full_like(left, 0.1)), dim=1)

    def encode_text(self, texts: Sequence[str]) -> Any:
        return torch.tensor([self.TABLE[text] for text in texts])


def text() -> TextDirections:
    """Both point along the first axis and along the second."""
    return TextDirections(from_visible=torch.tensor([1.0, 0.0]), from_thermal=torch.tensor([0.0, 1.0]))


def test_text_directions_point_from_the_sources_to_the_objective() -> None:
    prompts = replace(LanguagePreset().prompts, visible=("visible",), thermal=("thermal",), objective=("wanted", "too"))
    directions = text_directions(StubEncoder(), prompts)
    assert directions.from_visible.tolist() == pytest.approx([-ROOT_HALF, 0, ROOT_HALF])
    assert directions.from_thermal.tolist() == pytest.approx([0, -ROOT_HALF, ROOT_HALF])


def test_the_direction_loss_is_what_one_computes_by_hand() -> None:
    # unit(f) - unit(v) = (1, 0) - (0, 1) = (1, -1): cosine with (1, 0) is 1 / sqrt 2
    # unit(f) - unit(t) = (1, 0) - (-1, 0) = (2, 0): cosine with (0, 1) is 0
    value = direction_loss(
        fused=torch.tensor([[4.0, 0.0]]),
        visible=torch.tensor([[0.0, 2.0]]),
        thermal=torch.tensor([[-3.0, 0.0]]),
        text=text(),
    )
    assert value.tolist() == pytest.approx([(1 - ROOT_HALF) / 2 + 0.5])


def test_the_direction_loss_is_zero_where_the_texts_point_and_two_on_the_other_side() -> None:

    visible, thermal = torch.tensor([[0.6, 0.8]]), torch.tensor([[0.8, 0.6]])
    along = TextDirections(from_visible=unit(torch.tensor([0.4, -0.8])), from_thermal=unit(torch.tensor([0.2, -0.6])))
    back = TextDirections(from_visible=-along.from_visible, from_thermal=-along.from_thermal)
    fused = torch.tensor([[7.0, 0.0]])
    assert direction_loss(fused=fused, visible=visible, thermal=thermal, text=along).item() == pytest.approx(
        0, abs=1e-6
    )
    assert direction_loss(fused=fused, visible=visible, thermal=thermal, text=back).item() == pytest.approx(2, abs=1e-6)


def test_a_fused_picture_like_a_source_has_no_direction_and_a_finite_gradient() -> None:
    fused = torch.tensor([[1.0, 0.0]], requires_grad=True)
    value = direction_loss(
        fused=fused, visible=torch.tensor([[1.0, 0.0]]), thermal=torch.tensor([[0.0, 1.0]]), text=text()
    )
    value.sum().backward()
    # no way from the visible one: 1/2; from the thermal one (1, -1) against (0, 1)
    assert value.item() == pytest.approx(0.5 + (1 + ROOT_HALF) / 2)
    assert torch.isfinite(fused.grad).all()


def test_patches_that_do_not_count_are_zeros_in_the_mean() -> None:
    good, bad = torch.tensor([1.0, 0.0]), torch.tensor([-1.0, 0.0])
    patches = torch.stack((good, bad, good, bad))[:, None]
    sources = {"visible": torch.tensor([[0.0, 1.0]]), "thermal": torch.tensor([[0.0, -1.0]])}
    each = direction_loss(fused=patches, text=text(), **sources)
    counts = torch.tensor([[1], [0], [0], [1]])
    value = patch_direction_loss(patches=patches, counts=counts, text=text(), **sources)
    assert value.shape == (1,)
    assert value.item() == pytest.approx((each[0, 0] + each[3, 0]).item() / 4)


def test_the_embedding_loss_is_the_mean_cosine_distance() -> None:
    value = embedding_loss(
        fused=torch.tensor([[3.0, 0.0]]), visible=torch.tensor([[1.0, 1.0]]), thermal=torch.tensor([[-2.0, 0.0]])
    )
    assert value.tolist() == pytest.approx([(1 - ROOT_HALF) / 2 + 1.0])


def test_gradients_of_the_pure_functions() -> None:
    generator = torch.Generator().manual_seed(1)
    embeddings = [torch.randn(2, 3, dtype=torch.float64, generator=generator) for _ in range(5)]
    fused = embeddings[0].requires_grad_()
    sources = {"visible": embeddings[1], "thermal": embeddings[2]}
    told = TextDirections(from_visible=unit(embeddings[3][0]), from_thermal=unit(embeddings[4][0]))
    assert torch.autograd.gradcheck(lambda x: direction_loss(fused=x, text=told, **sources), (fused,))
    assert torch.autograd.gradcheck(lambda x: embedding_loss(fused=x, **sources), (fused,))
    counts = torch.tensor([[1.0, 0.0]])
    loss = patch_direction_loss
    assert torch.autograd.gradcheck(lambda x: loss(patches=x[None], text=told, counts=counts, **sources), (fused,))


def test_entropy_in_bits() -> None:
    flat = torch.full((4, 4), 0.3)
    halves = torch.tensor([0.0, 1.0]).repeat(8).reshape(4, 4)
    every = (torch.arange(256) / 256).reshape(16, 16)
    assert entropy_bits(torch.stack((flat, halves))).tolist() == pytest.approx([0, 1])
    assert entropy_bits(every).item() == pytest.approx(8)


def test_patches_of_all_pictures_are_cut_alike() -> None:
    columns = torch.arange(40.0).expand(1, 1, 30, 40) / 40
    patches = replace(LanguagePreset().patches, count=3)
    one, other = cut_patches((columns, columns / 2), patches, generator=torch.Generator().manual_seed(3))
    assert one.shape == (3, 1, 1, 30, 30)
    assert torch.allclose(one / 2, other)
    again = cut_patches((columns,), patches, generator=torch.Generator().manual_seed(3))[0]
    assert torch.equal(one, again)
    assert not torch.allclose(one[0], one[1])


def test_a_patch_without_an_affine_map_is_the_enlarged_square() -> None:
    columns = torch.arange(40.0).expand(1, 1, 40, 40) / 40
    patches = replace(LanguagePreset().patches, count=1, side=(0.5, 0.5), affine=STILL)
    patch = cut_patches((columns,), patches, generator=torch.Generator().manual_seed(0))[0][0, 0, 0]
    steps = torch.diff(patch[20, 4:-4])
    assert steps.tolist() == pytest.approx([1 / 80] * len(steps), abs=1e-5)  # twice as large: half the slope


def test_an_affine_map_moves_what_it_says() -> None:
    image = torch.zeros(1, 1, 9, 9)
    image[0, 0, 4, 4] = 1
    shift = torch.tensor(
        [[1.0, 0.0, -2 * 2 / 9], [0.0, 1.0, 0.0]]
    )  # input_from_output: the output lies 2 px to the right
    assert warp(image, shift, size_px=9)[0, 0].argmax().item() == 4 * 9 + 6
    zoom = RandomAffine(rotation_deg=0.0, shift_x=0.0, shift_y=0.0, scale=(1.5, 1.5), shear_deg=0.0)
    matrix = draw(zoom, torch.Generator().manual_seed(0))
    assert matrix.flatten().tolist() == pytest.approx([1 / 1.5, 0, 0, 0, 1 / 1.5, 0], abs=1e-6)


def test_only_patches_with_something_in_both_bands_count() -> None:
    generator = torch.Generator().manual_seed(5)
    rich, flat = torch.rand(1, 1, 64, 64, generator=generator), torch.full((1, 1, 64, 64), 0.5)
    told = TextDirections(from_visible=torch.tensor([1.0, 0.0, 0.0]), from_thermal=torch.tensor([0.0, 1.0, 0.0]))
    fused = torch.rand(1, 1, 64, 64, generator=generator)

    def patch_term(visible: Any, thermal: Any) -> float:
        terms = language_terms(
            encoder=StubEncoder(),
            text=told,
            fused=fused,
            visible=visible,
            thermal=thermal,
            patches=replace(LanguagePreset().patches, count=4),
            generator=torch.Generator().manual_seed(0),
        )
        return float(terms["patch"])

    assert patch_term(rich, rich.flip(-1)) > 0.1
    assert patch_term(rich, flat) == 0
    assert patch_term(flat, rich) == 0


def test_the_terms_of_the_stub_by_hand_and_their_gradient_reaches_the_picture_only() -> None:
    visible, thermal = torch.zeros(1, 1, 16, 16), torch.zeros(1, 1, 16, 16)
    visible[..., :8], thermal[..., 8:] = 0.8, 0.4
    fused = ((visible + thermal) / 2).requires_grad_()
    f, v, t = (unit(torch.tensor(x)) for x in ((0.4, 0.2, 0.1), (0.8, 0.0, 0.1), (0.0, 0.4, 0.1)))
    told = TextDirections(from_visible=torch.tensor([0.0, 1.0, 0.0]), from_thermal=torch.tensor([1.0, 0.0, 0.0]))
    terms = language_terms(
        encoder=StubEncoder(),
        text=told,
        fused=fused,
        visible=visible.requires_grad_(),
        thermal=thermal,
        patches=replace(LanguagePreset().patches, count=2),
        generator=torch.Generator(),
    )
    assert terms["global"].item() == pytest.approx(float((1 - unit(f - v)[1]) / 2 + (1 - unit(f - t)[0]) / 2), abs=1e-6)
    assert terms["embedding"].item() == pytest.approx(float((1 - f @ v) / 2 + (1 - f @ t) / 2), abs=1e-6)
    (terms["global"] + terms["embedding"]).backward()
    assert fused.grad.abs().sum() > 0
    assert visible.grad is None


def test_the_preset_has_the_published_constants() -> None:
    assert LanguagePreset().prompts.objective == ("a clear image with detailed background and salient objects",)
    assert (LanguagePreset().global_weight, LanguagePreset().patch_weight, LanguagePreset().embedding_weight) == (
        2,
        10,
        6,
    )
    assert (LanguagePreset().patches.count, LanguagePreset().patches.entropy_bits) == (32, 6.0)


# ---- a real open_clip model -------------------------------------------------------------------------------------------

TINY = {
    "embed_dim": 32,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 64, "patch_size": 8, "head_width": 32},
    "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 2},
}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A CLIP with random weights: the file, and the name under which open_clip knows its shape."""
    open_clip = _open_clip()
    folder = tmp_path_factory.mktemp("clip")
    (folder / "rtfusion-tiny.json").write_text(json.dumps(TINY))
    open_clip.add_model_config(folder / "rtfusion-tiny.json")
    torch.manual_seed(0)
    model = open_clip.create_model("rtfusion-tiny", pretrained=None)
    torch.save(model.state_dict(), folder / "tiny.pt")
    return folder / "tiny.pt", "rtfusion-tiny"


def _open_clip() -> Any:
    from rtfusion_trainer.torchvision_shim import ensure_torchvision

    if ensure_torchvision() == "absent":
        pytest.skip("torchvision is not installed: pip install -e '.[train]'")
    return pytest.importorskip("open_clip", reason="open_clip is not installed: pip install -e '.[train]'")


def test_torchvision_can_be_imported_whatever_pytorch_it_was_built_for() -> None:
    from rtfusion_trainer.torchvision_shim import ensure_torchvision

    if ensure_torchvision() == "absent":
        pytest.skip("torchvision is not installed: pip install -e '.[train]'")
    assert ensure_torchvision() == "native"  # once is enough
    from torchvision.transforms import functional

    assert functional.hflip(torch.tensor([[[1.0, 2.0]]])).tolist() == [[[2.0, 1.0]]]


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("something reached for the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.mark.usefixtures("no_network")
def test_an_open_clip_checkpoint_embeds_as_open_clip_does(tiny: tuple[Path, str]) -> None:
    from rtfusion_trainer.losses.clip import load_clip

    encoder = load_clip(tiny[0], model=tiny[1])
    images = torch.rand(2, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    open_clip = _open_clip()
    model = open_clip.create_model(tiny[1], pretrained=str(tiny[0])).eval()
    mean, std = (
        torch.tensor(value)[None, :, None, None]
        for value in (open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD)
    )
    with torch.no_grad():
        expected = model.encode_image((images.repeat(1, 3, 1, 1) - mean) / std)
        expected_text = model.encode_text(open_clip.get_tokenizer(tiny[1])(["an infrared image"]))
    assert torch.allclose(encoder.encode_image(images), expected, atol=1e-6)
    assert torch.allclose(encoder.encode_text(["an infrared image"]), expected_text, atol=1e-6)


@pytest.mark.usefixtures("no_network")
def test_a_folder_says_which_model_it_is(tiny: tuple[Path, str], tmp_path: Path) -> None:
    from rtfusion_trainer.losses.clip import load_clip

    (tmp_path / "open_clip_config.json").write_text(json.dumps({"model_cfg": TINY, "preprocess_cfg": {}}))
    (tmp_path / "open_clip_pytorch_model.bin").write_bytes(tiny[0].read_bytes())
    images = torch.rand(1, 1, 32, 32)
    from_folder = load_clip(tmp_path).encode_image(images)
    assert torch.equal(from_folder, load_clip(tiny[0], model=tiny[1]).encode_image(images))


def test_the_loss_of_a_real_model_reaches_the_pixels_and_no_weight(tiny: tuple[Path, str]) -> None:
    from rtfusion_trainer.losses.clip import load_clip

    encoder = load_clip(tiny[0], model=tiny[1])
    generator = torch.Generator().manual_seed(2)
    visible, thermal = (torch.rand(2, 1, 64, 64, generator=generator) for _ in range(2))
    fused = ((visible + thermal) / 2).requires_grad_()
    terms = language_terms(
        encoder=encoder,
        text=text_directions(encoder, LanguagePreset().prompts),
        fused=fused,
        visible=visible,
        thermal=thermal,
        patches=replace(LanguagePreset().patches, count=3),
        generator=generator,
    )
    assert all(0 < value.item() < 2 for value in terms.values())
    torch.stack(list(terms.values())).sum().backward()
    assert (fused.grad.abs() > 0).float().mean() > 0.9
    assert not any(p.requires_grad or p.grad is not None for p in encoder._model.parameters())


def test_following_the_loss_leads_where_the_texts_point(tiny: tuple[Path, str]) -> None:
    from rtfusion_trainer.losses.clip import load_clip

    encoder = load_clip(tiny[0], model=tiny[1])
    told = text_directions(encoder, LanguagePreset().prompts)
    generator = torch.Generator().manual_seed(2)
    visible, thermal = (torch.rand(1, 1, 32, 32, generator=generator) for _ in range(2))
    with torch.no_grad():
        sources = {"visible": encoder.encode_image(visible), "thermal": encoder.encode_image(thermal)}
    fused = ((visible + thermal) / 2).requires_grad_()
    optimizer = torch.optim.Adam([fused], lr=0.02)
    losses = []
    for _ in range(15):
        loss = direction_loss(fused=encoder.encode_image(fused), text=told, **sources).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0] - 0.05


@pytest.mark.usefixtures("no_network")
def test_without_weights_the_error_says_what_to_place(tiny: tuple[Path, str], tmp_path: Path) -> None:
    from rtfusion_trainer.losses.clip import load_clip

    with pytest.raises(ConfigError, match="--clip-weights DIR"):
        load_clip(None)
    with pytest.raises(ConfigError, match=r"no CLIP weights at .*nowhere\.pt"):
        load_clip(tmp_path / "nowhere.pt")
    with pytest.raises(ConfigError, match="near to it: ViT-B-32"):
        load_clip(tiny[0], model="ViT-B-23")
    with pytest.raises(ModelError, match="are no weights of ViT-B-32"):
        load_clip(tiny[0], model="ViT-B-32")
    (tmp_path / "text.pt").write_text("no weights at all")
    with pytest.raises(ModelError, match="as weights of CLIP"):
        load_clip(tmp_path / "text.pt", model="rtfusion-tiny")
    for damaged in (b"", b"cut off", b"\xff" * 100):
        (tmp_path / "cut.safetensors").write_bytes(damaged)
        with pytest.raises(ModelError, match=r"cut\.safetensors"):
            load_clip(tmp_path / "cut.safetensors", model="rtfusion-tiny")
    with pytest.raises(ConfigError, match=r"open_clip_config\.json"):
        load_clip(tmp_path)


@pytest.mark.usefixtures("no_network")
def test_models_that_need_more_files_from_a_hub_are_refused(tiny: tuple[Path, str], tmp_path: Path) -> None:
    from rtfusion_trainer.losses.clip import load_clip

    with pytest.raises(ConfigError, match="from a hub"):
        load_clip(tiny[0], model="ViT-B-16-SigLIP")
    (tmp_path / "open_clip_config.json").write_text(json.dumps({"model_cfg": TINY}))
    with pytest.raises(ModelError, match="no weights of the model in its folder"):
        load_clip(tmp_path)


def test_sentences_are_understood_with_the_text_tower_of_a_clip_model(
    tiny: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rtfusion_trainer.losses.clip import load_clip
    from rtfusion_trainer.sentences import ClipSentences

    from rtfusion.intents import bank, say

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    few = tuple(bank.examples()[::20])
    monkeypatch.setattr(bank, "examples", lambda: few)
    encoder = ClipSentences(tiny[0], model=tiny[1])
    texts = ["more color please", "太暗了"]
    direct = load_clip(tiny[0], model=tiny[1]).encode_text(texts).numpy()
    np.testing.assert_allclose(
        encoder.encode(texts), direct / np.linalg.norm(direct, axis=1, keepdims=True), rtol=1e-5, atol=1e-6
    )
    assert say("more color please", encoder=encoder).axes == {"color": 0.6}
    assert say("what is the capital of France", encoder=encoder).resolved_by == "clip"
    assert len([*(tmp_path / "rtfusion" / "language").iterdir()]) == 1  # the bank's matrix, under model and hash
