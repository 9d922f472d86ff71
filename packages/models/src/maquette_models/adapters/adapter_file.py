"""An adapter: what a finetuned run added to its base, as one small safetensors file that knows its base."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from maquette.checkpoint.tensor_files import TensorFile
from maquette.durable import whole_file
from maquette.errors import MaquetteError
from maquette.json_text import parse_json
from maquette.runs import RunFolder, load_run
from maquette_models.adapters.low_rank import LowRankChange, changes_of
from maquette_models.adapters.vocabulary import NewWords, new_words

FORMAT = "maquette adapter 1"
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


@dataclass(frozen=True)
class Adapter:
    """Low-rank changes by the names of layers, words with their rows, and the hash of the base's weights.

    ``about`` is what else is to be told of it: the runs' names, the step.
    """

    base_sha256: str
    changes: Mapping[str, LowRankChange]
    words: NewWords
    about: Mapping[str, Any] = field(default_factory=dict)

    def check_base(self, sha256: str, name: str) -> None:
        """Refuse a base that the adapter was not trained on.

        Raises:
            MaquetteError: names the base that it wants.
        """
        if sha256 != self.base_sha256:
            raise MaquetteError(
                f"the adapter '{self.about.get('name', '')}' was trained on '{self.about.get('base', 'another run')}' "
                f"(weights {self.base_sha256[:12]}), not on '{name}' ({sha256[:12]}); give the run it was trained on"
            )


def adapter_of(model: nn.Module, base_sha256: str, about: Mapping[str, Any]) -> Adapter:
    """What a model has beside its base's weights."""
    return Adapter(base_sha256, changes_of(model), new_words(model.conditioner), about)


def read_adapter(path: str | Path) -> Adapter:
    """An adapter from a file that `write_adapter` wrote, or from the folder of a finetuned run.

    Raises:
        MaquetteError: neither of them, or a run that has no adapter.
    """
    path = Path(path)
    if path.is_dir():
        return _of_run(path)
    if not path.is_file():
        raise MaquetteError(f"adapter '{path}' does not exist; give a file of `maquette adapter export` or a run")
    try:
        with TensorFile(path) as file:
            # Copies: the file may be written anew while its adapter is in use.
            tensors = {name: file.read(name).to(torch.float32, copy=True) for name in file.keys()}
            return _parsed(tensors, file.notes())
    except (MaquetteError, KeyError, ValueError, TypeError, AttributeError) as error:
        raise MaquetteError(f"'{path}' is no adapter: {error}") from None


def write_adapter(adapter: Adapter, path: str | Path, dtype: torch.dtype = torch.float32) -> None:
    """Write an adapter, whole or not at all; ``dtype`` is that of all its values."""
    tensors: dict[str, Tensor] = {}
    for name, change in adapter.changes.items():
        tensors[f"{name}.down"], tensors[f"{name}.up"] = change.down, change.up
    tensors["rows.classes"], tensors["rows.words"] = adapter.words.class_rows, adapter.words.word_rows
    texts = {
        "classes": list(adapter.words.classes),
        "words": list(adapter.words.words),
        "base_sha256": adapter.base_sha256,
        "about": dict(adapter.about),
    }
    with whole_file(Path(path)) as temporary:
        kept = {name: tensor.detach().to("cpu", dtype).contiguous() for name, tensor in tensors.items()}
        save_file(kept, temporary, {"format": FORMAT, "texts": json.dumps(texts)})


def _parsed(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> Adapter:
    if metadata.get("format") != FORMAT:
        raise ValueError(f"its format is '{metadata.get('format')}', not '{FORMAT}'")
    texts = parse_json(metadata["texts"])
    layers = [name.removesuffix(".down") for name in tensors if name.endswith(".down")]
    changes = {name: LowRankChange(tensors[f"{name}.down"], tensors[f"{name}.up"]) for name in layers}
    words = NewWords(tuple(texts["classes"]), tuple(texts["words"]), tensors["rows.classes"], tensors["rows.words"])
    return Adapter(texts["base_sha256"], changes, words, texts["about"])


def _of_run(folder: Path) -> Adapter:
    block = RunFolder(folder).read_config().model
    if block.get("name") != "lora":
        raise MaquetteError(f"'{folder}' has no adapter: it was not trained with method=lora")
    run = load_run(folder)
    about = {"name": run.config.name, "base": str(block.base), "step": run.step}
    return adapter_of(run.model, str(run.config.model.base_sha256), about)
