"""A condition of several parts, each of which a sample may lack: text, class, pictures, a shape."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from maquette import plugins
from maquette.engine.randomness import uniform
from maquette.errors import MaquetteError
from maquette_models.conditioners.condition import Condition, Part, count_rows


@dataclass
class CompositeConfig:
    """`parts` are conditioner blocks by label, e.g. {text: {name: text, merges: ...}, image: {size: 64}}; without a
    `name` the label is the name, and `width` is theirs too. In training each part is hidden at its own rate `drop`, and
    all of them at once at the rate `drop_all`, independently."""

    parts: dict[str, Any] = field(default_factory=dict)
    width: int = 128
    drop_all: float = 0.1


class Composite(nn.Module):
    """The tokens of all parts, one part after the other, each with what says whose they are added."""

    def __init__(self, config: CompositeConfig) -> None:
        super().__init__()
        if not config.parts:
            raise MaquetteError("conditioner 'composite' has no parts; e.g. parts: {text: {...}, image: {...}}")
        self.config = config
        blocks = {label: {"name": label, "width": config.width, **block} for label, block in config.parts.items()}
        parts = {label: plugins.build("conditioners", block) for label, block in blocks.items()}
        for label, part in parts.items():
            if not isinstance(part, Part):
                raise MaquetteError(
                    f"conditioner 'composite': '{label}' is '{blocks[label]['name']}', which cannot be a part"
                )
        self.parts = nn.ModuleDict(parts)
        self.kind = nn.Parameter(torch.randn(len(parts), config.width) * 0.1)
        self.reads = frozenset().union(*(part.reads for part in parts.values()))
        for name in ("class_index", "picture_size", "most_pictures", "surface_count"):
            found = [getattr(part, name) for part in parts.values() if hasattr(part, name)]
            if found:
                setattr(self, name, found[0] if name == "class_index" else max(found))

    def prepare(self, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        """What the parts prepare, as `<label>.<name>` [B,...]; in training some are hidden from some samples."""
        rows = count_rows(batch)
        prepared = self._read(batch, rows)
        return self.hide(prepared, self.draw_drop(rows)) if self.training else prepared

    def null(self, batch_size: int) -> dict[str, Tensor]:
        """The prepared condition of nothing at all, for guidance."""
        return self._read({}, batch_size)

    def draw_drop(self, batch_size: int) -> Tensor:
        """Which parts to hide from each sample of the batch under way, bool [B,P]."""
        rates = torch.tensor([*(part.drop for part in self.parts.values()), self.config.drop_all])
        hidden = uniform("drop_condition", (batch_size, len(rates))) < rates
        return hidden[:, :-1] | hidden[:, -1:]

    def hide(self, prepared: Mapping[str, Tensor], hidden: Tensor) -> dict[str, Tensor]:
        """What `prepare` made, without the parts where `hidden` [B,P] is True."""
        found = dict(prepared)
        for number, (label, part) in enumerate(self.parts.items()):
            shown = part.hide(_of_part(prepared, label), hidden[:, number])
            found |= {f"{label}.{key}": value for key, value in shown.items()}
        return found

    def forward(self, prepared: Mapping[str, Tensor]) -> Condition:
        """Encode what `prepare` made."""
        tokens, masks, pooled = [], [], []
        for kind, (label, part) in zip(self.kind, self.parts.items(), strict=True):
            own, mask = part.tokens(_of_part(prepared, label))
            tokens.append(own + kind.to(own.dtype))
            masks.append(mask)
            pooled.append(part.pooled(own, mask))
        together = torch.stack([one.float() for one in pooled]).sum(dim=0)
        return Condition(torch.cat(tokens, dim=1), torch.cat(masks, dim=1), F.silu(together))

    def example_batch(self, batch_size: int) -> dict[str, Any]:
        """What `prepare` reads of a batch, in the right shapes."""
        batch: dict[str, Any] = {}
        for part in self.parts.values():
            batch |= part.example_batch(batch_size)
        return batch

    @property
    def token_count(self) -> int:
        """Tokens a sample."""
        return sum(part.token_count for part in self.parts.values())

    def flops(self, batch_size: int) -> int:
        """Twice the multiply-adds of the matrix products of one forward pass."""
        return sum(part.flops(batch_size) for part in self.parts.values())

    def _read(self, batch: Mapping[str, Any], rows: int) -> dict[str, Tensor]:
        device = self.kind.device
        return {
            f"{label}.{key}": value.to(device)
            for label, part in self.parts.items()
            for key, value in part.read(batch, rows).items()
        }


def _of_part(prepared: Mapping[str, Tensor], label: str) -> dict[str, Tensor]:
    return {key.removeprefix(f"{label}."): value for key, value in prepared.items() if key.startswith(f"{label}.")}
