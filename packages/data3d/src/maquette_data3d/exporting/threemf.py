"""3MF for printers: millimetres, z up, closed bodies, colours and textures (3MF core 1.3 and materials 1.2)."""

from __future__ import annotations

import io
import re
import zipfile
from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import escape, quoteattr

import numpy as np

from maquette.durable import whole_file
from maquette.errors import MaquetteError
from maquette.types import Asset, Material, Mesh
from maquette_data3d.exporting.encoded_images import MIME, as_one_of
from maquette_data3d.exporting.pieces import distinct, materials_of, parts_of
from maquette_data3d.exporting.units import METRES_WHERE_UNKNOWN, scaled, unit_of, z_up
from maquette_data3d.ingest.colors import to_srgb

_UNITS = {"micron": 1e-6, "millimeter": 1e-3, "centimeter": 1e-2, "inch": 0.0254, "foot": 0.3048, "meter": 1.0}
_MATERIALS = "http://schemas.microsoft.com/3dmanufacturing/material/2015/02"
_CORE = "http://schemas.microsoft.com/3dmanufacturing/core/2015/02"
_RELATION = "http://schemas.microsoft.com/3dmanufacturing/2013/01/"
_PACKAGE = "http://schemas.openxmlformats.org/package/2006/"
_REPEATS = ' tilestyleu="wrap" tilestylev="wrap"'
_HEAD = '<?xml version="1.0" encoding="UTF-8"?>\n'
_MODEL = "3D/3dmodel.model"
_FIRST_DATE = (1980, 1, 1, 0, 0, 0)
_UNSAID = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")


@dataclass
class ThreemfConfig:
    """
    Args:
        unit_m: metres a unit of meshes that do not say.
        unit: of the file: "micron", "millimeter", "centimeter", "inch", "foot" or "meter".
    """

    unit_m: float = METRES_WHERE_UNKNOWN
    unit: str = "millimeter"

    def __post_init__(self) -> None:
        if self.unit not in _UNITS:
            raise MaquetteError(f"unit is '{self.unit}'; 3MF knows {', '.join(_UNITS)}")


class ThreemfExporter:
    """One thing on the build plate: an object a part where parts are closed bodies of their own, else one object.

    Vertices in one place become one, so that closed surfaces are closed in the file too, and faces without area, which
    the format forbids, are left out. Untextured materials are base materials, textures texture groups, colours of
    vertices colour groups; what else a material has does not print.
    """

    suffix = ".3mf"

    def __init__(self, config: ThreemfConfig | None = None) -> None:
        self.config = config or ThreemfConfig()

    def __call__(self, asset: Asset, path: str | Path) -> Path:
        """Writes the file whole or not at all."""
        path = Path(path)
        content = threemf(asset, self.config)
        with whole_file(path) as temporary:
            temporary.write_bytes(content)
        return path


def threemf(asset: Asset, config: ThreemfConfig) -> bytes:
    """The bytes of the package."""
    mesh = scaled(asset, unit_of(asset.mesh, config.unit_m) / _UNITS[config.unit]).mesh
    resources = _Resources(mesh)
    title = str(asset.metadata.get("prompt") or "")
    head = [
        f'{_HEAD}<model unit="{config.unit}" xml:lang="en-US" xmlns="{_CORE}" xmlns:m="{_MATERIALS}">',
        '<metadata name="Application">maquette</metadata>',
        *([f'<metadata name="Title">{escape(_said(title))}</metadata>'] if title else []),
    ]
    objects = _objects(mesh, resources)
    body = ["<resources>", *resources.lines, *objects, "</resources>"]
    tail = [f'<build><item objectid="{resources.last}"/></build>', "</model>"]
    members = {
        "[Content_Types].xml": _content_types(resources.images),
        "_rels/.rels": _relations([(f"/{_MODEL}", f"{_RELATION}3dmodel")]),
        _MODEL: "\n".join([*head, *body, *tail]),
        **resources.images,
    }
    if resources.images:
        links = [(f"/{name}", f"{_RELATION}3dtexture") for name in resources.images]
        members["3D/_rels/3dmodel.model.rels"] = _relations(links)
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, content in members.items():
            archive.writestr(zipfile.ZipInfo(name, _FIRST_DATE), content, zipfile.ZIP_DEFLATED)
    return out.getvalue()


class _Resources:
    """Property groups of one mesh, and the three words that each face's corners refer to them by."""

    def __init__(self, mesh: Mesh) -> None:
        self._mesh = mesh
        self.last = 0
        self.lines: list[str] = []
        self.images: dict[str, bytes] = {}
        self._group = np.zeros(len(mesh.faces), np.int64)
        self._corners = np.zeros((len(mesh.faces), 3), np.int64)
        material = materials_of(mesh)
        self._add_bases(material)
        for place in np.unique(material[material >= 0]):
            if self._texture_of(mesh.materials[place]) is not None:
                self._add_texture(int(place), np.flatnonzero(material == place))
        if mesh.colors is not None and (material < 0).any():
            self._add_colors(np.flatnonzero(material < 0))

    def next(self) -> int:
        """A new id."""
        self.last += 1
        return self.last

    def of(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The group [F] and the places in it [F, 3] of faces; group 0 stands for none."""
        return self._group[rows], self._corners[rows]

    def _texture_of(self, material: Material) -> int | None:
        return None if self._mesh.uv is None else material.textures.get("base_color")

    def _add_bases(self, material: np.ndarray) -> None:
        used = [int(place) for place in np.unique(material[material >= 0])]
        plain = [place for place in used if self._texture_of(self._mesh.materials[place]) is None]
        if not plain:
            return
        key = self.next()
        self.lines.append(f'<basematerials id="{key}">')
        for number, place in enumerate(plain):
            found = self._mesh.materials[place]
            color = to_srgb(np.array(found.base_color[:3])).tolist()
            shown = _hex([*color, round(255 * min(max(found.base_color[3], 0.0), 1.0))])
            name = quoteattr(_said(found.name) or f"material_{place}")
            self.lines.append(f'<base name={name} displaycolor="{shown}"/>')
            rows = material == place
            self._group[rows], self._corners[rows] = key, number
        self.lines.append("</basematerials>")

    def _add_texture(self, place: int, rows: np.ndarray) -> None:
        if self._mesh.uv is None:
            return
        image = self._mesh.materials[place].textures["base_color"]
        content, kind = as_one_of(self._mesh.images[image], ("png", "jpg"))
        name, texture, key = f"3D/Textures/{image}.{kind}", self.next(), self.next()
        self.images[name] = content
        flat = self._mesh.uv[rows].reshape(-1, 2)
        first, number = distinct(list(flat.T))
        coordinates = flat[first].astype(np.float64) * [1, -1] + [0, 1]
        self.lines += [
            f'<m:texture2d id="{texture}" path="/{name}" contenttype="{MIME[kind]}"{_REPEATS}/>',
            f'<m:texture2dgroup id="{key}" texid="{texture}">',
            *(f'<m:tex2coord u="{u:.9g}" v="{v:.9g}"/>' for u, v in coordinates.tolist()),
            "</m:texture2dgroup>",
        ]
        self._group[rows], self._corners[rows] = key, number.reshape(-1, 3)

    def _add_colors(self, rows: np.ndarray) -> None:
        if self._mesh.colors is None:
            return
        found, number = np.unique(self._mesh.colors[self._mesh.faces[rows]].reshape(-1, 4), axis=0, return_inverse=True)
        key = self.next()
        self.lines += [f'<m:colorgroup id="{key}">', *(f'<m:color color="{_hex(row)}"/>' for row in found.tolist())]
        self.lines.append("</m:colorgroup>")
        self._group[rows], self._corners[rows] = key, number.reshape(-1, 3)


def _objects(mesh: Mesh, resources: _Resources) -> list[str]:
    """Objects with triangles, and above several of them one that holds them; the last id is to be built."""
    points = z_up(mesh.vertices)
    first, place = distinct(list((points + np.float32(0)).T))  # the sum makes -0 to 0
    faces = place[mesh.faces]
    kept = (faces != np.roll(faces, 1, axis=1)).all(1)
    if not kept.any():
        raise MaquetteError("3MF cannot hold the mesh: every face has two corners in one place")
    part = parts_of(mesh)
    groups = [np.flatnonzero(kept & (part == number)) for number in np.unique(part[kept])]
    if not all(_closed(faces[rows]) for rows in groups):
        groups = [np.flatnonzero(kept)]
    lines, keys = [], []
    for rows in groups:
        keys.append(resources.next())
        name = mesh.part_names[part[rows[0]]] if len(groups) > 1 and mesh.part_names else ""
        lines += _object(keys[-1], name, points[first], faces[rows], properties=resources.of(rows))
    if len(keys) > 1:
        components = [f'<component objectid="{key}"/>' for key in keys]
        lines += [f'<object id="{resources.next()}" type="model"><components>', *components, "</components></object>"]
    return lines


def _object(
    key: int, name: str, points: np.ndarray, faces: np.ndarray, *, properties: tuple[np.ndarray, np.ndarray]
) -> list[str]:
    used, index = np.unique(faces, return_inverse=True)
    named = f" name={quoteattr(_said(name))}" if _said(name) else ""
    group, corners = properties
    painted = np.flatnonzero(group)
    default = f' pid="{group[painted[0]]}" pindex="{corners[painted[0], 0]}"' if len(painted) else ""
    lines = [f'<object id="{key}" type="model"{named}{default}><mesh><vertices>']
    places = points[used].astype(np.float64).tolist()
    lines += [f'<vertex x="{x:.9g}" y="{y:.9g}" z="{z:.9g}"/>' for x, y, z in places]
    lines.append("</vertices><triangles>")
    triangles = np.concatenate([index.reshape(-1, 3), group[:, None], corners], 1).tolist()
    lines += [
        f'<triangle v1="{a}" v2="{b}" v3="{c}"' + (f' pid="{g}" p1="{i}" p2="{j}" p3="{k}"/>' if g else "/>")
        for a, b, c, g, i, j, k in triangles
    ]
    return [*lines, "</triangles></mesh></object>"]


def _closed(faces: np.ndarray) -> bool:
    """Every edge has exactly two faces, which run along it in opposite ways."""
    start, stop = faces.reshape(-1).astype(np.int64), np.roll(faces, -1, axis=1).reshape(-1).astype(np.int64)
    most = int(faces.max()) + 1
    there, back = np.sort(start * most + stop), np.sort(stop * most + start)
    return bool((np.diff(there) > 0).all()) and np.array_equal(there, back)


def _content_types(images: dict[str, bytes]) -> str:
    kinds = {"rels": "application/vnd.openxmlformats-package.relationships+xml"}
    kinds["model"] = "application/vnd.ms-package.3dmanufacturing-3dmodel+xml"
    kinds |= {name.rpartition(".")[2]: MIME[name.rpartition(".")[2]] for name in images}
    lines = [f'<Default Extension="{ending}" ContentType="{kind}"/>' for ending, kind in kinds.items()]
    return f'{_HEAD}<Types xmlns="{_PACKAGE}content-types">{"".join(lines)}</Types>'


def _relations(links: list[tuple[str, str]]) -> str:
    lines = [f'<Relationship Target="{to}" Id="r{n}" Type="{kind}"/>' for n, (to, kind) in enumerate(links)]
    return f'{_HEAD}<Relationships xmlns="{_PACKAGE}relationships">{"".join(lines)}</Relationships>'


def _hex(color: list[int]) -> str:
    return "#" + bytes(color).hex().upper()


def _said(text: str) -> str:
    """A text without the characters that XML has no room for."""
    return _UNSAID.sub("", text)
