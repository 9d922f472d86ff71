"""Material libraries of OBJ files: the classic statements, and the physically based ones that exporters agreed on."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from maquette.types import Material
from maquette_data3d.ingest.beside import Beside
from maquette_data3d.ingest.colors import to_linear
from maquette_data3d.ingest.pictures import Pictures

_MAPS = {
    "map_kd": "base_color",
    "map_ke": "emissive",
    "norm": "normal",
    "map_kn": "normal",
}
# One image that several maps share, each with a channel of its own, is packed as glTF packs it.
_CHANNELS = {("map_pr", "-imfchan g"): "metallic_roughness", ("map_ka", "-imfchan r"): "occlusion"}
_OPTION_VALUES = {"-o": 3, "-s": 3, "-t": 3, "-mm": 2}


class Library:
    """Materials by name, gathered from one or more libraries."""

    def __init__(self, beside: Beside, pictures: Pictures) -> None:
        self._beside = beside
        self._pictures = pictures
        self._materials: dict[str, Material] = {}

    def read(self, name: str) -> None:
        """Adds a library's materials; nothing where it is not there, the mesh is good without."""
        content = self._beside.optional(name)
        current = None
        for line in ("" if content is None else content.decode("utf-8", "replace")).splitlines():
            word, _, rest = line.strip().partition(" ")
            rest = rest.strip()
            if word.lower() == "newmtl":
                current = rest
                self._materials.setdefault(current, Material(current))
            elif current is not None and rest:
                self._materials[current] = self._told(self._materials[current], word.lower(), rest)

    def chosen(self, names: dict[str, int]) -> tuple[list[Material], np.ndarray]:
        """The materials that a file uses, and their places by the file's numbers (-1 for unknown ones)."""
        known = [name for name in names if name in self._materials]
        places = np.array([known.index(name) if name in self._materials else -1 for name in names], np.int64)
        return [self._materials[name] for name in known], places

    def _told(self, material: Material, word: str, rest: str) -> Material:
        role = _MAPS.get(word) or _CHANNELS.get((word, rest[: len("-imfchan g")].lower()))
        if role is not None:
            content = self._beside.optional(_file_name(rest))
            place = None if content is None else self._pictures.add(content)
            return material if place is None else replace(material, textures={**material.textures, role: place})
        values = _numbers(rest)
        return _with_values(material, word, values) if values else material


def _with_values(material: Material, word: str, values: list[float]) -> Material:
    red, green, blue, opacity = material.base_color
    changes: dict[str, Any] = {}
    if word in ("kd", "ke") and len(values) >= 3:
        light = [float(to_linear(np.float64(max(value, 0.0)))) for value in values[:3]]
        changes = {"base_color": (*light, opacity)} if word == "kd" else {"emissive": tuple(light)}
    elif word in ("d", "tr"):
        opacity = min(max(values[0] if word == "d" else 1.0 - values[0], 0.0), 1.0)
        changes = {"base_color": (red, green, blue, opacity), "alpha_mode": "blend" if opacity < 1.0 else "opaque"}
    elif word == "ns":  # Blinn-Phong's exponent as roughness: alpha = sqrt(2 / (n + 2)), Walter et al. 2007
        changes = {"roughness": float((2.0 / (max(values[0], 0.0) + 2.0)) ** 0.25)}
    elif word in ("pr", "pm"):
        changes = {"roughness" if word == "pr" else "metallic": min(max(values[0], 0.0), 1.0)}
    return replace(material, **changes)


def _numbers(text: str) -> list[float]:
    values = []
    for word in text.split():
        try:
            value = float(word)
        except ValueError:
            break
        if not np.isfinite(value):
            break
        values.append(value)
    return values


def _file_name(text: str) -> str:
    """The name behind a map's options, which may have blanks in it."""
    words = text.split(" ")
    while len(words) > 1 and words[0].startswith("-"):
        most = _OPTION_VALUES.get(words[0], 1)
        words = words[1:]
        while most and len(words) > 1 and (_numbers(words[0]) or most == 1):
            words, most = words[1:], most - 1
    return " ".join(words).strip()
