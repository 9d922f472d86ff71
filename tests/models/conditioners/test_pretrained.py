"""Frozen encoders of CLIP, T5 and DINO on disk: tiny random ones, made and saved here, give what transformers gives."""

from __future__ import annotations

import copy
import importlib
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from maquette import plugins
from maquette.errors import MaquetteError
from maquette_models.conditioners.pictures import framed

transformers = pytest.importorskip("transformers")
tokenizers = pytest.importorskip("tokenizers")
CAPTIONS = ["a tall red chair", "a mug", ""]


def save_tokenizer(folder: Path) -> None:
    """Words and their ends; padding is 0."""
    words = {word: i for i, word in enumerate(["<pad>", "</s>", "<unk>", "a", "tall", "red", "chair", "mug"])}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="<unk>"))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    tokenizer.post_processor = tokenizers.processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", words["</s>"])]
    )
    fast = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    )
    fast.save_pretrained(folder)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder an encoder."""
    root = tmp_path_factory.mktemp("weights")
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    text = transformers.CLIPTextConfig(
        vocab_size=8, max_position_embeddings=12, eos_token_id=1, pad_token_id=0, **sizes
    )
    vision = transformers.CLIPVisionConfig(image_size=16, patch_size=8, **sizes)
    whole = transformers.CLIPConfig(text_config=text.to_dict(), vision_config=vision.to_dict(), projection_dim=8)
    transformers.CLIPModel(whole).save_pretrained(root / "clip")
    t5 = transformers.T5Config(vocab_size=8, d_model=24, d_kv=8, d_ff=32, num_layers=2, num_heads=2)
    transformers.T5ForConditionalGeneration(t5).save_pretrained(root / "t5")
    for name in ("clip", "t5"):
        save_tokenizer(root / name)
    dino2 = transformers.Dinov2Config(image_size=28, patch_size=14, mlp_ratio=2, **sizes)
    transformers.Dinov2Model(dino2).save_pretrained(root / "dinov2")
    dino3 = transformers.DINOv3ViTConfig(image_size=32, patch_size=16, num_register_tokens=3, **sizes)
    transformers.DINOv3ViTModel(dino3).save_pretrained(root / "dinov3")
    about = {"image_mean": [0.1, 0.2, 0.3], "image_std": [0.5, 0.5, 0.25]}
    (root / "dinov3" / "preprocessor_config.json").write_text(json.dumps(about))
    return root


def conditioner(name: str, path: Path, **changes: Any) -> Any:
    torch.manual_seed(1)
    return plugins.build("conditioners", {"name": name, "path": str(path), "width": 12, **changes}).eval()


@pytest.mark.parametrize(("name", "folder", "width"), [("clip_text", "clip", 16), ("t5_text", "t5", 24)])
def test_text_is_encoded_as_transformers_does(name: str, folder: str, width: int, weights: Path) -> None:
    own = conditioner(name, weights / folder, max_tokens=12)
    assert own.embedding_width == width
    embedding, mask = own.embed(CAPTIONS)
    assert embedding.shape == (3, 12, width) and mask.sum(dim=1).tolist() == [5, 3, 1]
    tokenizer = transformers.AutoTokenizer.from_pretrained(weights / folder)
    kind = transformers.CLIPTextModel if name == "clip_text" else transformers.T5EncoderModel
    model = kind.from_pretrained(weights / folder).eval()
    alone = tokenizer([CAPTIONS[0]], return_tensors="pt")
    with torch.no_grad():
        expected = model(input_ids=alone["input_ids"], attention_mask=alone["attention_mask"]).last_hidden_state[0]
    torch.testing.assert_close(embedding[0, :5].float(), expected, atol=2e-3, rtol=2e-3)
    prepared = own.prepare({"caption": CAPTIONS})
    assert prepared["known"].tolist() == [True, True, False], "an empty caption is none, whatever its end token gives"
    assert torch.equal(own(prepared).pooled[2], own(own.null(1)).pooled[0])
    assert own(prepared).tokens.shape == (3, own.token_count, 12)


@pytest.mark.parametrize(("folder", "size", "tokens"), [("dinov2", 28, 1 + 4), ("dinov3", 32, 1 + 3 + 4)])
def test_pictures_are_encoded_as_transformers_does(folder: str, size: int, tokens: int, weights: Path) -> None:
    own = conditioner("dino_image", weights / folder, size=size)
    pictures = torch.ones(2, 4, size, size)
    pictures[:, :3] = torch.rand(2, 3, size, size)
    embedding, mask = own.embed(pictures)
    assert embedding.shape == (2, tokens, 16) and own.token_count == 1 + tokens and mask.all()
    mean, std = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    if folder == "dinov3":
        mean, std = (0.1, 0.2, 0.3), (0.5, 0.5, 0.25)
    seen = (framed(pictures, size)[:, :3] - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)
    with torch.no_grad():
        expected = transformers.AutoModel.from_pretrained(weights / folder).eval()(pixel_values=seen).last_hidden_state
    torch.testing.assert_close(embedding.float(), expected, atol=2e-3, rtol=2e-3)


def test_only_the_map_is_trained_and_saved(weights: Path) -> None:
    own = conditioner("clip_text", weights / "clip", max_tokens=12)
    own.embed(CAPTIONS)
    assert {name.split(".")[0] for name in own.state_dict()} == {"lead", "norm", "pool", "project"}
    twin = copy.deepcopy(own)
    assert twin.encoder is own.encoder, "averages of the weights share what is frozen"
    own.train()
    tokens, mask, pooled = own(own.prepare({"caption": CAPTIONS}))
    (tokens[mask].sum() + pooled.square().sum()).backward()
    assert all(value.grad is not None for value in own.parameters())
    assert not any(value.requires_grad for value in own.encoder.model.parameters())


def test_precision_of_training_does_not_change_embeddings(weights: Path) -> None:
    own = conditioner("t5_text", weights / "t5", max_tokens=12)
    plain = own.embed(CAPTIONS)[0]
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(own.embed(CAPTIONS)[0], plain)


def test_weights_that_are_not_there(weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(MaquetteError, match="no pretrained encoder at"):
        conditioner("clip_text", tmp_path / "nowhere")
    with pytest.raises(MaquetteError, match="holds a 't5'; it can use clip"):
        conditioner("clip_text", weights / "t5")
    (tmp_path / "config.json").write_text((weights / "clip" / "config.json").read_text())
    with pytest.raises(MaquetteError, match="cannot read the tokenizer"):
        conditioner("clip_text", tmp_path).embed(["a mug"])
    save_tokenizer(tmp_path)
    with pytest.raises(MaquetteError, match="cannot read the weights"):
        conditioner("clip_text", tmp_path).embed(["a mug"])
    own = conditioner("clip_text", weights / "clip")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MaquetteError, match=r"maquette-models\[pretrained\]"):
        own.embed(["a mug"])
