"""MJCF (MuJoCo): one body with what is seen, what collides and what it weighs."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree as Xml

import numpy as np

from maquette.errors import MaquetteError
from maquette.types import Asset, Material, Mesh
from maquette_data3d.exporting.encoded_images import as_one_of
from maquette_data3d.exporting.obj import obj_files
from maquette_data3d.exporting.pieces import materials_of
from maquette_data3d.exporting.robots.body import Body, BodyConfig, body_of
from maquette_data3d.exporting.robots.urdf import hull_files, numbers, written
from maquette_data3d.exporting.whole_files import plain_name, write_together
from maquette_data3d.ingest.colors import to_srgb

_LEAST_INERTIA = 1e-14  # kg m^2; the engine's own bound lies at 1e-15


class MjcfExporter:
    """`NAME.mjcf` (or `.xml`); beside it an OBJ a material, PNG textures, and an STL a hull.

    Visual geometry is in group 2 and touches nothing, hulls are in group 3, as MuJoCo's own models have them.
    """

    suffix = ".mjcf"

    def __init__(self, config: BodyConfig | None = None) -> None:
        self.config = config or BodyConfig()

    def __call__(self, asset: Asset, path: str | Path) -> Path:
        """Writes all files whole or none of them.

        Raises:
            MaquetteError: a flat mesh, or a body lighter than MuJoCo can move.
        """
        path = Path(path)
        name = plain_name(path.stem, "model")
        body = body_of(asset, self.config)
        if np.linalg.eigvalsh(body.inertia).min() < _LEAST_INERTIA:
            side = np.ptp(body.visual.vertices, axis=0).max() * 1000
            raise MaquetteError(f"a body of {side:.3g} mm is too small for MuJoCo; check the mesh's unit_m")
        beside = hull_files(body, name)
        content = _Description(body, name, self.config.fixed, beside).content()
        write_together(path, content, beside)
        return path


class _Description:
    """The XML of a body; fills `beside` with the files that it names."""

    def __init__(self, body: Body, name: str, fixed: bool, beside: dict[str, bytes]) -> None:
        self._name = name
        self._beside = beside
        self._root = Xml.Element("mujoco", model=name)
        self._assets = Xml.SubElement(self._root, "asset")
        self._body = Xml.SubElement(Xml.SubElement(self._root, "worldbody"), "body", name=name)
        if not fixed:
            Xml.SubElement(self._body, "freejoint")
        tensor = body.inertia[[0, 1, 2, 0, 0, 1], [0, 1, 2, 1, 2, 2]]
        Xml.SubElement(
            self._body, "inertial", pos=numbers(body.centre), mass=f"{body.mass:.9g}", fullinertia=numbers(tensor)
        )
        hulls = sorted(beside)
        material = materials_of(body.visual)
        for number, place in enumerate(np.unique(material).tolist()):
            self._add_visual(body.visual, number, place, np.flatnonzero(material == place))
        for file in hulls:
            self._add_mesh(file, group="3")

    def content(self) -> bytes:
        """The file."""
        return written(self._root)

    def _add_visual(self, mesh: Mesh, number: int, place: int, rows: np.ndarray) -> None:
        used, index = np.unique(mesh.faces[rows], return_inverse=True)
        uv = None if mesh.uv is None else mesh.uv[rows]
        shown = Mesh(mesh.vertices[used], index.reshape(-1, 3), uv=uv)
        file = f"{self._name}_visual_{number}.obj"
        self._beside[file] = obj_files(shown, file.removesuffix(".obj"))[0][1]
        surface = f"{self._name}_material_{number}"
        self._add_material(surface, Material() if place < 0 else mesh.materials[place], mesh)
        self._add_mesh(file, group="2", material=surface, contype="0", conaffinity="0", mass="0")

    def _add_material(self, name: str, material: Material, mesh: Mesh) -> None:
        color = to_srgb(np.array(material.base_color[:3])) / 255
        words = {"name": name, "rgba": numbers([*color, material.base_color[3]])}
        image = material.textures.get("base_color")
        if image is not None and mesh.uv is not None:
            file = f"{self._name}_{image}.png"
            if file not in self._beside:
                self._beside[file] = as_one_of(mesh.images[image], ("png",))[0]
                Xml.SubElement(self._assets, "texture", name=file, type="2d", file=file)
            words["texture"] = file
        Xml.SubElement(self._assets, "material", words)

    def _add_mesh(self, file: str, **geometry: str) -> None:
        # A surface, not a solid: open meshes have looks too, and what a body weighs is said.
        Xml.SubElement(self._assets, "mesh", name=file, file=file, inertia="shell")
        Xml.SubElement(self._body, "geom", type="mesh", mesh=file, **geometry)
