"""CLIP weights in every layout: what a file is, what it implies, and what is refused. Weights are random, layouts are real."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install -e '.[train]'")

from rtfusion_trainer.losses.clip import load_clip  # noqa: E402
from rtfusion_trainer.losses.clip_files import OPENAI_KEYS, read_clip  # noqa: E402
from rtfusion_trainer.losses.self_test import SENTENCES, pictures, require_sight, self_test  # noqa: E402
from rtfusion_trainer.torchvision_shim import ensure_torchvision  # noqa: E402

from rtfusion.errors import ConfigError, ModelError  # noqa: E402

if ensure_torchvision() == "absent":
    pytest.skip("torchvision is not installed: pip install -e '.[train]'", allow_module_level=True)
open_clip = pytest.importorskip("open_clip", reason="open_clip is not installed: pip install -e '.[train]'")

TINY: dict[str, Any] = {
    "embed_dim": 24,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 32, "patch_size": 16, "head_width": 16},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 2},
}
IMAGES = torch.rand(2, 1, 32, 32, generator=torch.Generator().manual_seed(0))
TEXTS = ["an infrared image", "a clear image"]


@pytest.fixture(scope="module")
def names(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """A small CLIP in open_clip's list, with GELU and with QuickGELU."""
    folder = tmp_path_factory.mktemp("configs")
    for name, extra in (("rtfusion-small", {}), ("rtfusion-small-quickgelu", {"quick_gelu": True})):
        (folder / f"{name}.json").write_text(json.dumps({**TINY, **extra}))
        open_clip.add_model_config(folder / f"{name}.json")
    return "rtfusion-small", "rtfusion-small-quickgelu"


def model(name: str) -> Any:
    torch.manual_seed(0)
    return open_clip.create_model(name, pretrained=None).eval()


def assert_like(encoder: Any, expected: Any) -> None:
    """The encoder embeds as the model does."""
    mean, std = (
        torch.tensor(v)[None, :, None, None] for v in (open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD)
    )
    with torch.no_grad():
        seen = expected.encode_image((IMAGES.repeat(1, 3, 1, 1) - mean) / std)
        said = expected.encode_text(open_clip.get_tokenizer("ViT-B-32")(TEXTS))
    torch.testing.assert_close(encoder.encode_image(IMAGES), seen, atol=2e-6, rtol=1e-5)
    torch.testing.assert_close(encoder.encode_text(TEXTS), said, atol=2e-6, rtol=1e-5)


def write_openai(path: Path, network: Any) -> Path:
    """OpenAI's state dict: the weights, and three numbers."""
    numbers = dict(zip(OPENAI_KEYS, map(torch.tensor, (32, 77, 49408)), strict=True))
    torch.save({**network.state_dict(), **numbers}, path)
    return path


def write_archive(path: Path, network: Any) -> Path:
    """OpenAI's TorchScript archive: code, the weights in half precision, and three numbers."""

    class Archive(torch.nn.Module):
        def forward(self, image: Any) -> Any:
            return image

    archive = Archive()
    for name, module in network.named_children():
        archive.add_module(name, module)
    for name, parameter in network.named_parameters(recurse=False):
        archive.register_parameter(name, parameter)
    for name, number in zip(OPENAI_KEYS, (32, 77, 49408), strict=True):
        archive.register_buffer(name, torch.tensor(number))
    torch.jit.trace(archive.half().eval(), torch.zeros(1)).save(str(path))
    network.float()
    return path


def write_transformers(folder: Path, network: Any, *, activation: str) -> Path:
    """A folder as transformers writes it, from open_clip's weights."""
    state, written = network.state_dict(), {}
    outside = {
        "logit_scale": "logit_scale",
        "token_embedding.weight": "text_model.embeddings.token_embedding.weight",
        "positional_embedding": "text_model.embeddings.position_embedding.weight",
        "ln_final": "text_model.final_layer_norm",
        "visual.class_embedding": "vision_model.embeddings.class_embedding",
        "visual.conv1.weight": "vision_model.embeddings.patch_embedding.weight",
        "visual.positional_embedding": "vision_model.embeddings.position_embedding.weight",
        "visual.ln_pre": "vision_model.pre_layrnorm",
        "visual.ln_post": "vision_model.post_layernorm",
        "transformer.resblocks": "text_model.encoder.layers",
        "visual.transformer.resblocks": "vision_model.encoder.layers",
    }
    inside = {"attn.out_proj": "self_attn.out_proj", "ln_1": "layer_norm1", "ln_2": "layer_norm2"}
    inside |= {"mlp.c_fc": "mlp.fc1", "mlp.c_proj": "mlp.fc2"}
    for name, value in state.items():
        if name in ("visual.proj", "text_projection"):
            written["visual_projection.weight" if name == "visual.proj" else "text_projection.weight"] = value.T.clone()
            continue
        theirs = max((ours for ours in outside if name.startswith(ours)), key=len)
        new = outside[theirs] + name.removeprefix(theirs)
        for ours, other in inside.items():
            new = new.replace(f".{ours}.", f".{other}.")
        if ".attn.in_proj_" in new:
            for letter, part in zip("qkv", value.chunk(3), strict=True):
                written[new.replace(".attn.in_proj_", f".self_attn.{letter}_proj.")] = part.clone()
        else:
            written[new] = value
    written["text_model.embeddings.position_ids"] = torch.arange(77)[None]
    folder.mkdir(exist_ok=True)
    torch.save(written, folder / "pytorch_model.bin")
    vision = {"hidden_act": activation, "hidden_size": 32, "image_size": 32, "num_hidden_layers": 2, "patch_size": 16}
    vision |= {"num_attention_heads": 2, "intermediate_size": 128}
    text = {"hidden_act": activation, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = {"model_type": "clip", "projection_dim": 24, "vision_config": vision}
    (folder / "config.json").write_text(json.dumps({**config, "text_config": {**text, "intermediate_size": 64}}))
    return folder


# ---- what is right is taken --------------------------------------------------------------------------------------------------


def test_a_bare_file_of_open_clip_with_its_model(names: tuple[str, str], tmp_path: Path) -> None:
    network = model(names[0])
    torch.save(network.state_dict(), tmp_path / "weights.pt")
    assert_like(load_clip(tmp_path / "weights.pt", model=names[0]), network)


def test_safetensors_too(names: tuple[str, str], tmp_path: Path) -> None:
    safetensors = pytest.importorskip("safetensors.torch", reason="safetensors is not installed")
    network = model(names[1])
    safetensors.save_file(network.state_dict(), tmp_path / "weights.safetensors")
    assert_like(load_clip(tmp_path / "weights.safetensors", model=names[1]), network)


def test_openais_state_dict_without_its_numbers(names: tuple[str, str], tmp_path: Path) -> None:
    network = model(names[1])
    path = write_openai(tmp_path / "openai.pt", network)
    assert read_clip(path).what.startswith("OpenAI's state dict")
    assert_like(load_clip(path, model=names[1]), network)


@pytest.mark.filterwarnings("ignore")  # torch says that TorchScript is old
def test_openais_archive_is_converted_and_its_halves_are_exact(names: tuple[str, str], tmp_path: Path) -> None:
    network = model(names[1]).half().float()
    path = write_archive(tmp_path / "ViT.pt", network)
    assert read_clip(path).layout == "openai-archive"
    assert_like(load_clip(path, model=names[1]), network)


@pytest.mark.parametrize("activation", ["quick_gelu", "gelu"])
def test_a_folder_of_transformers_is_converted_with_its_activation(
    names: tuple[str, str], tmp_path: Path, activation: str
) -> None:
    network = model(names[activation == "quick_gelu"])
    assert_like(load_clip(write_transformers(tmp_path / "hf", network, activation=activation)), network)


def test_a_folder_of_open_clip_knows_its_activation(names: tuple[str, str], tmp_path: Path) -> None:
    network = model(names[1])
    config = {"model_cfg": {**TINY, "quick_gelu": True}, "preprocess_cfg": {}}
    (tmp_path / "open_clip_config.json").write_text(json.dumps(config))
    torch.save(network.state_dict(), tmp_path / "open_clip_pytorch_model.bin")
    assert_like(load_clip(tmp_path), network)


# ---- what is wrong is named --------------------------------------------------------------------------------------------------


def test_a_bare_file_does_not_say_its_model(names: tuple[str, str], tmp_path: Path) -> None:
    torch.save(model(names[1]).state_dict(), tmp_path / "weights.pt")
    with pytest.raises(ConfigError, match=r"an open_clip state dict; of which model.*Pass --clip-model"):
        load_clip(tmp_path / "weights.pt")


def test_openais_file_is_not_loaded_with_gelu(names: tuple[str, str], tmp_path: Path) -> None:
    path = write_openai(tmp_path / "openai.pt", model(names[1]))
    with pytest.raises(
        ConfigError, match=r"OpenAI's state dict.*QuickGELU.*pass --clip-model rtfusion-small-quickgelu"
    ):
        load_clip(path, model=names[0])


@pytest.mark.filterwarnings("ignore")
def test_openais_archive_is_named(names: tuple[str, str], tmp_path: Path) -> None:
    path = write_archive(tmp_path / "ViT.pt", model(names[1]))
    with pytest.raises(ConfigError, match=r"OpenAI's own TorchScript archive, whose network has QuickGELU"):
        load_clip(path, model=names[0])
    with pytest.raises(ConfigError, match="OpenAI's own TorchScript archive; of which model"):
        load_clip(path)


def test_a_bare_file_of_transformers_is_named(names: tuple[str, str], tmp_path: Path) -> None:
    folder = write_transformers(tmp_path / "hf", model(names[0]), activation="gelu")
    with pytest.raises(ConfigError, match=r"layout of transformers.*pass the folder"):
        load_clip(folder / "pytorch_model.bin", model=names[0])
    (folder / "config.json").write_text('{"model_type": "siglip", "vision_config": {}, "text_config": {}}')
    with pytest.raises(ModelError, match="model_type 'siglip'"):
        load_clip(folder)


def test_weights_of_another_size_and_no_weights_at_all(names: tuple[str, str], tmp_path: Path) -> None:
    torch.save(model(names[0]).state_dict(), tmp_path / "weights.pt")
    with pytest.raises(ModelError, match="no weights of ViT-B-32"):
        load_clip(tmp_path / "weights.pt", model="ViT-B-32")
    torch.save({"a": [1, 2]}, tmp_path / "other.pt")
    with pytest.raises(ModelError, match="no state dict of tensors"):
        load_clip(tmp_path / "other.pt", model=names[0])


# ---- the self-test -----------------------------------------------------------------------------------------------------------


class Knowing:
    """Knows every picture and text of the test by the order in which they are asked for; or nothing, where it is blind."""

    def __init__(self, *, blind: bool) -> None:
        self._first = {text for texts, _ in SENTENCES.values() for text in texts}
        self._blind = blind
        self._random = torch.Generator().manual_seed(0)

    def encode_image(self, images: Any) -> Any:
        if self._blind:
            return torch.randn(len(images), 16, generator=self._random)
        # the first picture of a contrast is asked for before the second
        self._asked = 1 - getattr(self, "_asked", 1)
        return torch.tensor([[1.0, 0.0] if self._asked == 0 else [0.0, 1.0]]).expand(len(images), -1)

    def encode_text(self, texts: Any) -> Any:
        if self._blind:
            return torch.randn(len(texts), 16, generator=self._random)
        return torch.tensor([[1.0, 0.0] if text in self._first else [0.0, 1.0] for text in texts])


def test_an_encoder_that_tells_the_contrasts_passes_with_its_scores() -> None:
    assert all(score.share == 1 for score in self_test(Knowing(blind=False)))
    text = require_sight(Knowing(blind=False), name="this one")
    assert text.startswith("infrared against visible 1.00, day against night 1.00, somebody against nobody 1.00")


def test_an_encoder_that_cannot_is_refused_with_its_scores() -> None:
    with pytest.raises(ModelError, match=r"that one cannot tell .* infrared against visible 0\.\d\d.*--no-clip-test"):
        require_sight(Knowing(blind=True), name="that one")


def test_the_pictures_differ_in_what_the_contrast_is_about() -> None:
    found = pictures()
    for first, second in (pair for pairs in found.values() for pair in pairs):
        assert first.shape == second.shape
        assert (first != second).any()
    assert all(day.mean() > night.mean() + 20 for day, night in found["day against night"])
