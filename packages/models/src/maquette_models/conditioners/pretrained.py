"""Weights of other people's encoders on disk, read through `transformers`, which is an optional dependency.

Nothing is downloaded: `path` is a folder that holds config.json, the weights as safetensors (pickles are not read)
and, for text, the tokenizer. Weights are read when they are first used, so that a model can be planned, sharded or
trained on stored embeddings without them.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import nn

from maquette.errors import MaquetteError
from maquette.json_text import read_json

TOKENIZERS = ("tokenizer.json", "vocab.json", "spiece.model")
"""Without any of them transformers makes up a tokenizer that knows no words."""


class Pretrained:
    """A frozen encoder in a folder.

    Args:
        conditioner: whose it is, for messages.
        path: the folder.
        architecture: the class of `transformers` that holds the weights.
        kinds: the `model_type`s of config.json that it can be.

    Raises:
        MaquetteError: no such folder, or one of another kind.
    """

    def __init__(self, conditioner: str, path: str, architecture: str, kinds: Sequence[str]) -> None:
        self.conditioner, self.path, self.architecture = conditioner, path, architecture
        file = Path(path) / "config.json"
        if not path or not file.is_file():
            raise MaquetteError(
                f"conditioner '{conditioner}': no pretrained encoder at '{path}'; give path=FOLDER, one with "
                "config.json and weights as transformers saves them"
            )
        try:
            self.config: dict[str, Any] = read_json(file)
        except ValueError:
            raise MaquetteError(f"conditioner '{conditioner}': '{file}' is no JSON; copy the folder again") from None
        kind = self.config.get("model_type") if isinstance(self.config, dict) else None
        if kind not in kinds:
            raise MaquetteError(
                f"conditioner '{conditioner}': '{path}' holds a '{kind}'; it can use {', '.join(kinds)}"
            )

    @cached_property
    def model(self) -> nn.Module:
        """The encoder, in float32, without gradients.

        Raises:
            MaquetteError: `transformers` or the weights are not there.
        """
        transformers = self._library()
        try:
            found = getattr(transformers, self.architecture).from_pretrained(
                self.path, local_files_only=True, dtype=torch.float32, use_safetensors=True, trust_remote_code=False
            )
        except (OSError, ValueError, RuntimeError, SafetensorError) as error:
            raise self._unreadable("weights", error) from None
        return found.eval().requires_grad_(False)  # type: ignore[no-any-return]

    @cached_property
    def tokenizer(self) -> Any:
        """The tokenizer.

        Raises:
            MaquetteError: `transformers` or the tokenizer is not there.
        """
        transformers = self._library()
        if not any((Path(self.path) / name).is_file() for name in TOKENIZERS):
            raise self._unreadable("tokenizer", FileNotFoundError(f"none of {', '.join(TOKENIZERS)} is there"))
        try:
            return transformers.AutoTokenizer.from_pretrained(self.path, local_files_only=True, trust_remote_code=False)
        except (OSError, ValueError) as error:
            raise self._unreadable("tokenizer", error) from None

    def __deepcopy__(self, memo: dict[int, Any]) -> Pretrained:
        """Itself: copies of a model, such as averages of its weights, share what is frozen."""
        return self

    def _library(self) -> Any:
        if importlib.util.find_spec("transformers") is None:
            raise MaquetteError(
                f"conditioner '{self.conditioner}' needs transformers: pip install 'maquette-models[pretrained]'"
            )
        return importlib.import_module("transformers")

    def _unreadable(self, what: str, error: Exception) -> MaquetteError:
        line = str(error).strip().split("\n")[0]
        return MaquetteError(f"conditioner '{self.conditioner}': cannot read the {what} in '{self.path}': {line}")
