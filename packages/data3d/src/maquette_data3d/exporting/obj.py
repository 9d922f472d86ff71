"""Wavefront OBJ with its material library and images, beside it or together in a ZIP."""

from __future__ import annotations

import io
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from maquette.durable import whole_file
from maquette.types import Asset, Material, Mesh
from maquette_data3d.exporting.encoded_images import as_one_of
from maquette_data3d.exporting.pieces import distinct, materials_of, parts_of
from maquette_data3d.exporting.whole_files import plain_name, unique, write_together

_FIRST_DATE = (1980, 1, 1, 0, 0, 0)


@dataclass
class ObjConfig:
    """OBJ has nothing to set: coordinates are the mesh's own, y up."""


class ObjExporter:
    """`NAME.obj`, and beside it `NAME.mtl` and `NAME_0.png` ... where the mesh has materials.

    Parts are objects. Colours of vertices stand behind their coordinates where no face has a material. Skins, clips,
    alpha masks and two-sidedness have no place in the format.
    """

    suffix = ".obj"

    def __init__(self, config: ObjConfig | None = None) -> None:
        self.config = config or ObjConfig()

    def __call__(self, asset: Asset, path: str | Path) -> Path:
        """Writes all files whole or none of them."""
        path = Path(path)
        files = obj_files(asset.mesh, plain_name(path.stem, "model"))
        content = files.pop(0)[1]
        write_together(path, content, dict(files))
        return path


class ZipExporter:
    """The files of `ObjExporter` in one ZIP; the same asset gives the same bytes."""

    suffix = ".zip"

    def __init__(self, config: ObjConfig | None = None) -> None:
        self.config = config or ObjConfig()

    def __call__(self, asset: Asset, path: str | Path) -> Path:
        """Writes the archive whole or not at all."""
        path = Path(path)
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w") as archive:
            for name, content in obj_files(asset.mesh, plain_name(path.stem, "model")):
                archive.writestr(zipfile.ZipInfo(name, _FIRST_DATE), content, zipfile.ZIP_DEFLATED)
        with whole_file(path) as temporary:
            temporary.write_bytes(out.getvalue())
        return path


def obj_files(mesh: Mesh, stem: str) -> list[tuple[str, bytes]]:
    """Names and contents: the OBJ itself first, then its library and images, where there are materials."""
    used = sorted({int(place) for place in materials_of(mesh)} - {-1})
    names = dict(zip(used, unique([plain_name(mesh.materials[at].name, f"material_{at}") for at in used]), strict=True))
    images: dict[int, tuple[str, bytes]] = {}
    for place in sorted({image for at in used for image in mesh.materials[at].textures.values()}):
        content, kind = as_one_of(mesh.images[place], ("png", "jpg"))
        images[place] = (f"{stem}_{place}.{kind}", content)
    files = [(f"{stem}.obj", _obj(mesh, names, f"{stem}.mtl").encode())]
    if used:
        library = "\n".join(
            line for at in used for line in _material_lines(names[at], mesh.materials[at], images, mesh.uv is not None)
        )
        files.append((f"{stem}.mtl", f"{library}\n".encode()))
    return files + (list(images.values()) if mesh.uv is not None else [])


def _obj(mesh: Mesh, names: dict[int, str], library: str) -> str:
    lines = ["# maquette", *([f"mtllib {library}"] if names else [])]
    points = mesh.vertices.astype(np.float64).tolist()
    if mesh.colors is not None and not names:
        # Shares that give the same byte back.
        colors = np.round(mesh.colors[:, :3] / 255, 6).tolist()
        rows = zip(points, colors, strict=True)
        lines += [f"v {x:.9g} {y:.9g} {z:.9g} {r:g} {g:g} {b:g}" for (x, y, z), (r, g, b) in rows]
    else:
        lines += [f"v {x:.9g} {y:.9g} {z:.9g}" for x, y, z in points]
    corners = (mesh.faces + 1).astype(np.int64)
    if mesh.uv is None:
        faces = [f"f {a} {b} {c}" for a, b, c in corners.tolist()]
    else:
        flat = mesh.uv.reshape(-1, 2)
        first, number = distinct(list(flat.T))
        lines += [f"vt {u:.9g} {v:.9g}" for u, v in (flat[first].astype(np.float64) * [1, -1] + [0, 1]).tolist()]
        both = np.stack([corners, number.reshape(-1, 3) + 1], 2).reshape(-1, 6)
        faces = [f"f {a}/{i} {b}/{j} {c}/{k}" for a, i, b, j, c, k in both.tolist()]
    return "\n".join([*lines, *_grouped(mesh, faces, names), ""])


def _grouped(mesh: Mesh, faces: list[str], names: dict[int, str]) -> list[str]:
    """Lines of faces below the names of their part and material."""
    part, material = parts_of(mesh), materials_of(mesh)
    titles = unique([plain_name(name, f"part_{place}") for place, name in enumerate(mesh.part_names or ("model",))])
    lines: list[str] = []
    now: tuple[int, int] = (-1, -1)
    for row in np.lexsort((material, part)).tolist():
        found = int(part[row]), int(material[row])
        if found[0] != now[0]:
            lines.append(f"o {titles[found[0]]}")
        if found[1] != now[1] or (found[1] == -1 and found[0] != now[0] and names):
            lines.append(f"usemtl {names.get(found[1], 'none')}")
        now = found
        lines.append(faces[row])
    return lines


def _material_lines(name: str, material: Material, images: dict[int, tuple[str, bytes]], with_uv: bool) -> list[str]:
    """A material of the library: colours in sRGB as programs read them, and Pr, Pm, Pe of the physically based ones."""
    red, green, blue, opacity = material.base_color
    lines = [
        f"newmtl {name}",
        "Kd " + " ".join(f"{_srgb(value):.6g}" for value in (red, green, blue)),
        f"d {opacity:.6g}",
        f"Pr {material.roughness:.6g}",
        f"Pm {material.metallic:.6g}",
        "Ke " + " ".join(f"{_srgb(value):.6g}" for value in material.emissive),
    ]
    maps = {
        "base_color": ("map_Kd",),
        "metallic_roughness": ("map_Pr -imfchan g", "map_Pm -imfchan b"),
        "normal": ("norm",),
        "occlusion": ("map_Ka -imfchan r",),
        "emissive": ("map_Ke",),
    }
    for role, statements in maps.items() if with_uv else ():
        if role in material.textures:
            lines += [f"{statement} {images[material.textures[role]][0]}" for statement in statements]
    return lines


def _srgb(light: float) -> float:
    """IEC 61966-2-1, continued above 1."""
    return light * 12.92 if light <= 0.0031308 else 1.055 * light ** (1 / 2.4) - 0.055
