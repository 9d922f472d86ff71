"""Condition tokens of one or several pictures of an object, by a vision transformer trained with the generator."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from einops import rearrange
from torch import Tensor, nn

from maquette.engine.randomness import uniform
from maquette.errors import MaquetteError
from maquette_models.conditioners.condition import Part
from maquette_models.conditioners.pictures import framed, normalised, on_background
from maquette_models.conditioners.vision_transformer import VisionTransformer

MEAN, STD = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)
ROTATION = 9


@dataclass
class ViewsConfig:
    """`size` is the side of the pictures that the encoder sees, on `background`, sRGB in [0,1], with their alpha beside
    the colours. In training the object is moved and scaled by up to `jitter` of the frame; a share `opaque` of the
    pictures is on any colour and without alpha; and the cameras are hidden from `drop_cameras` of the samples."""

    max_views: int = 4
    size: int = 64
    patch: int = 8
    width: int = 128
    depth: int = 4
    heads: int = 4
    drop: float = 0.1
    drop_cameras: float = 0.5
    jitter: float = 0.05
    opaque: float = 0.2
    background: list[float] = field(default_factory=lambda: [0.5, 0.5, 0.5])


class Views(Part):
    """Reads `view_rgb` float32 [B,V,4,S,S], sRGB and alpha in [0,1], of any side and any V up to `max_views`, and where
    it is there `view_camera` [B,V,4,4], world to camera.

    In training a sample shows some of its pictures, from one to all of them, so that any number can be given in use.
    """

    reads: ClassVar[frozenset[str]] = frozenset({"images"})

    def __init__(self, config: ViewsConfig) -> None:
        super().__init__(config.width, config.heads, config.drop)
        if config.max_views < 1:
            raise MaquetteError(f"max_views is {config.max_views}; a conditioner of pictures needs at least 1")
        self.config, self.picture_size, self.most_pictures = config, config.size, config.max_views
        self.encoder = VisionTransformer(config.size, config.patch, config.width, config.depth, config.heads)
        self.view = nn.Parameter(torch.randn(config.max_views, config.width) * 0.1)
        if config.max_views > 1:
            self.camera = nn.Sequential(
                nn.Linear(ROTATION, config.width), nn.SiLU(), nn.Linear(config.width, config.width)
            )
            self.no_camera = nn.Parameter(torch.zeros(config.width))

    def read(self, batch: Mapping[str, Any], rows: int) -> dict[str, Tensor]:
        """`pictures` float32 [B,V,4,size,size], `shown` bool [B,V] and, for several views, `rotation` [B,V,9] and
        `oriented` bool [B].

        Raises:
            MaquetteError: more pictures than the model has seen together.
        """
        most = self.config.max_views
        views = batch.get("view_rgb")
        if views is None:
            views = torch.zeros(rows, most, 4, 1, 1)
            shown = torch.zeros(rows, most, dtype=torch.bool)
        else:
            shown = torch.ones(views.shape[:2], dtype=torch.bool)
        count = views.shape[1]
        if count > most:
            raise MaquetteError(f"{count} pictures were given, but this conditioner takes at most {most}")
        if self.training:
            shown = shown & (torch.arange(count) <= uniform("view_count", (rows, 1)) * count)
        pictures = self._pictures(views.float(), rows)
        missing = (0, 0, 0, 0, 0, 0, 0, most - count)
        prepared = {
            "pictures": nn.functional.pad(pictures, missing),
            "shown": nn.functional.pad(shown, (0, most - count)),
            "known": shown.any(dim=1),
        }
        return prepared if most == 1 else {**prepared, **self._cameras(batch, rows, most)}

    def _pictures(self, views: Tensor, rows: int) -> Tensor:
        """Framed and on their backgrounds, with alpha from -1 to 1: [B,V,4,size,size]."""
        count, jitter = views.shape[1], None
        background = torch.tensor(self.config.background, device=views.device).expand(rows * count, 3)
        opaque = torch.zeros(rows * count, 1, device=views.device)
        if self.training:
            drawn = uniform("picture", (rows, count, 7)).flatten(0, 1).to(views.device)
            jitter, opaque = (2 * drawn[:, :3] - 1) * self.config.jitter, (drawn[:, 6:] < self.config.opaque).float()
            background = torch.where(opaque > 0, drawn[:, 3:6], background)
        premultiplied = framed(views.flatten(0, 1), self.config.size, jitter)
        alpha = torch.maximum(premultiplied[:, 3:], opaque[..., None, None])
        colors = normalised(on_background(premultiplied, background), MEAN, STD)
        return rearrange(torch.cat([colors, 2 * alpha - 1], dim=1), "(b v) c y x -> b v c y x", b=rows)

    def _cameras(self, batch: Mapping[str, Any], rows: int, most: int) -> dict[str, Tensor]:
        rotation, oriented = torch.zeros(rows, most, ROTATION), torch.zeros(rows, dtype=torch.bool)
        if "view_camera" in batch:
            cameras = batch["view_camera"]
            rotation[:, : cameras.shape[1]] = cameras[:, :, :3, :3].flatten(2)
            oriented = torch.ones_like(oriented)
        if self.training:
            oriented = oriented & (uniform("cameras", (rows, 1))[:, 0] >= self.config.drop_cameras)
        return {"rotation": rotation, "oriented": oriented}

    def encode(self, prepared: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """The pictures' patches, one picture after the other."""
        pictures = prepared["pictures"]
        rows = len(pictures)
        patches = rearrange(self.encoder(pictures.flatten(0, 1)), "(b v) t w -> b v t w", b=rows)
        of_view = self.view
        if self.config.max_views > 1:
            known = self.camera(prepared["rotation"].to(self.camera[0].weight.dtype))
            of_view = self.view + torch.where(prepared["oriented"][:, None, None], known, self.no_camera)
        tokens = patches + of_view[..., None, :]
        mask = prepared["shown"][..., None].expand(tokens.shape[:3])
        return tokens.flatten(1, 2), mask.flatten(1, 2)

    def example_batch(self, batch_size: int) -> dict[str, Any]:
        """Pictures of nothing."""
        side = self.config.size
        return {"view_rgb": torch.zeros(batch_size, self.config.max_views, 4, side, side)}

    @property
    def encoded_count(self) -> int:
        """Patches of all pictures."""
        return self.config.max_views * self.encoder.count

    def encoding_flops(self) -> int:
        """Of the vision transformer; cameras count as nothing."""
        return self.config.max_views * self.encoder.flops()
