"""3MF: a ZIP of XML models (3MF Consortium: core 1.3, materials 1.2 and production 1.1 specifications)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from maquette.errors import MaquetteError
from maquette.types import Material
from maquette_data3d.ingest.archive import checked, content
from maquette_data3d.ingest.colors import light_of
from maquette_data3d.ingest.limits import ReadLimits
from maquette_data3d.ingest.parts import Found, Part
from maquette_data3d.ingest.pictures import Pictures
from maquette_data3d.ingest.threemf_model import Model, Object, Use, parsed, start_part

_UNITS = {"micron": 1e-6, "millimeter": 1e-3, "centimeter": 1e-2, "inch": 0.0254, "foot": 0.3048, "meter": 1.0}
_DEEPEST = 64


def find(path: Path, limits: ReadLimits) -> Found:
    """All items of the build plate, placed; z is up in 3MF, and the unit is said."""
    with checked(path, limits) as archive:
        package = _Package(
            {m.filename.lstrip("/"): content(archive, m, limits.largest_bytes) for m in archive.filelist}
        )
    root = start_part(package.files)
    model = package.model(root)
    uses = model.build or [Use(root, key, np.eye(4)) for key in model.objects]
    faces, parts = (sum(sizes) for sizes in zip((0, 0), *(package.size(use, 0) for use in uses), strict=True))
    limits.check_faces(faces)
    limits.check_parts(parts)
    found = [placed for use in uses for placed in package.placed(use, np.eye(4))]
    materials, pictures = _Materials(package), Pictures()
    made = [_part(number, one, materials, pictures) for number, one in enumerate(found)]
    unit = _UNITS.get(model.unit)
    if unit is None:
        raise MaquetteError(f"unreadable: 3MF knows no unit {model.unit[:20]!r}")
    return Found(made, materials.found, pictures, unit_m=unit, up_axis="z")


class _Package:
    """Models of one package by their path, read when something refers to them."""

    def __init__(self, files: dict[str, bytes]) -> None:
        self.files = files
        self._models: dict[str, Model] = {}
        self._sizes: dict[tuple[str, str], tuple[int, int]] = {}

    def model(self, path: str) -> Model:
        if path not in self._models:
            if path not in self.files:
                raise MaquetteError(f"missing_file: the 3MF has no {path[:60]!r}")
            self._models[path] = parsed(self.files[path], path)
        return self._models[path]

    def object(self, use: Use) -> Object:
        found = self.model(use.path).objects.get(use.key)
        if found is None:
            raise MaquetteError(f"index_range: the 3MF has no object {use.key[:20]!r}")
        return found

    def size(self, use: Use, depth: int) -> tuple[int, int]:
        """Triangles and meshes of an object with all its components, counted before any is placed."""
        if depth > _DEEPEST:
            raise MaquetteError(f"unreadable: its components nest deeper than {_DEEPEST}, or in a circle")
        key = (use.path, use.key)
        if key not in self._sizes:
            found = self.object(use)
            each = [self.size(component, depth + 1) for component in found.components]
            own = len(found.triangles) // 3
            self._sizes[key] = own + sum(faces for faces, _ in each), max(sum(parts for _, parts in each), 1)
        return self._sizes[key]

    def placed(self, use: Use, above: np.ndarray) -> Iterator[tuple[str, Object, np.ndarray]]:
        """Objects with triangles below a use: path of their model, themselves, their place [4, 4]."""
        matrix, found = above @ use.matrix, self.object(use)
        if len(found.triangles):
            yield use.path, found, matrix
        for component in found.components:
            yield from self.placed(component, matrix)


class _Materials:
    """Property groups as materials, made when a triangle refers to them."""

    def __init__(self, package: _Package) -> None:
        self._package = package
        self._places: dict[tuple[str, str, int], int] = {}
        self.found: list[Material] = []

    def model(self, path: str) -> Model:
        """The model part that a path names."""
        return self._package.model(path)

    def place(self, path: str, key: str, index: int, pictures: Pictures) -> int:
        """The material of one property; a texture group is one material, and -1 where there is no such property."""
        model = self._package.model(path)
        index = 0 if key in model.textures else index
        at = (path, key, index)
        if at not in self._places:
            made = None
            if key in model.bases and 0 <= index < len(model.bases[key]):
                name, color = model.bases[key][index]
                red, green, blue = (float(value) for value in light_of(np.array(color[:3], np.uint8)))
                opacity = color[3] / 255
                mode = "blend" if opacity < 1 else "opaque"
                made = Material(name, (red, green, blue, opacity), alpha_mode=mode)
            elif key in model.textures:
                image = self._package.files.get(model.images.get(model.textures[key][0], ""), b"")
                place = pictures.add(image) if image else None
                made = None if place is None else Material(key, textures={"base_color": place})
            self._places[at] = -1 if made is None else len(self.found)
            self.found.extend([] if made is None else [made])
        return self._places[at]


def _part(number: int, placed: tuple[str, Object, np.ndarray], materials: _Materials, pictures: Pictures) -> Part:
    path, found, matrix = placed
    model = materials.model(path)
    points = np.frombuffer(found.points, np.float64).reshape(-1, 3)
    faces = np.frombuffer(found.triangles, np.int64).reshape(-1, 3)
    properties = np.frombuffer(found.properties, np.int64).reshape(-1, 4)
    part = Part(found.name, number, points @ matrix[:3, :3].T + matrix[:3, 3], faces)
    material = np.full(len(faces), -1)
    tint, uv = np.full((len(faces), 3, 3), np.nan, np.float32), np.zeros((len(faces), 3, 2))
    for group in np.unique(properties[:, 0][properties[:, 0] >= 0]):
        key, rows = model.keys[group], np.flatnonzero(properties[:, 0] == group)
        corners = properties[rows, 1:]
        if key in model.colors:
            colors = light_of(np.array(model.colors[key], np.uint8).reshape(-1, 4)[:, :3])
            tint[rows] = colors[np.clip(corners, 0, len(colors) - 1)] if len(colors) else np.nan
        else:
            places = {int(i): materials.place(path, key, int(i), pictures) for i in np.unique(corners[:, 0])}
            material[rows] = [places[int(i)] for i in corners[:, 0]]
        if key in model.textures:
            table = np.array(model.textures[key][1], np.float64).reshape(-1, 2)
            uv[rows] = table[np.clip(corners, 0, len(table) - 1)] * [1, -1] + [0, 1] if len(table) else 0.0
    part.material = material
    if np.isfinite(tint).any():
        part.tint, part.paints = np.where(np.isfinite(tint), tint, light_of(np.array(158, np.uint8))), True
    part.uv = uv if uv.any() else None
    if np.linalg.det(matrix[:3, :3]) < 0:
        part.faces, part.uv = faces[:, ::-1], None if part.uv is None else part.uv[:, ::-1]
        part.tint = None if part.tint is None else part.tint[:, ::-1]
    return part
