"""URDF (ROS): one link with what is seen, what collides and what it weighs."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from xml.etree import ElementTree as Xml

from maquette.types import Asset
from maquette_data3d.exporting.obj import obj_files
from maquette_data3d.exporting.plain import stl
from maquette_data3d.exporting.robots.body import Body, BodyConfig, body_of
from maquette_data3d.exporting.whole_files import plain_name, write_together


class UrdfExporter:
    """`NAME.urdf`; beside it `NAME_visual.obj` with its material library and images, and a `NAME_hull_0.stl` a hull."""

    suffix = ".urdf"

    def __init__(self, config: BodyConfig | None = None) -> None:
        self.config = config or BodyConfig()

    def __call__(self, asset: Asset, path: str | Path) -> Path:
        """Writes all files whole or none of them."""
        path = Path(path)
        name = plain_name(path.stem, "model")
        body = body_of(asset, self.config)
        visual = obj_files(body.visual, f"{name}_visual")
        beside = dict(visual) | hull_files(body, name)
        write_together(path, urdf(body, name, visual[0][0]), beside)
        return path


def hull_files(body: Body, name: str) -> dict[str, bytes]:
    """Names and contents of the hulls' STL files."""
    return {f"{name}_hull_{place}.stl": stl(hull.vertices[hull.faces]) for place, hull in enumerate(body.hulls)}


def urdf(body: Body, name: str, visual: str) -> bytes:
    """The description."""
    robot = Xml.Element("robot", name=name)
    link = Xml.SubElement(robot, "link", name=name)
    inertial = Xml.SubElement(link, "inertial")
    Xml.SubElement(inertial, "origin", xyz=numbers(body.centre), rpy="0 0 0")
    Xml.SubElement(inertial, "mass", value=f"{body.mass:.9g}")
    tensor = {f"i{'xyz'[i]}{'xyz'[j]}": f"{body.inertia[i, j]:.9g}" for i in range(3) for j in range(i, 3)}
    Xml.SubElement(inertial, "inertia", tensor)
    for kind, files in (("visual", [visual]), ("collision", sorted(hull_files(body, name)))):
        for file in files:
            geometry = Xml.SubElement(Xml.SubElement(link, kind), "geometry")
            Xml.SubElement(geometry, "mesh", filename=file)
    return written(robot)


def numbers(values: Iterable[float]) -> str:
    """Numbers with blanks between them."""
    return " ".join(f"{value:.9g}" for value in values)


def written(root: Xml.Element) -> bytes:
    """An XML file, indented."""
    Xml.indent(root)
    return Xml.tostring(root, encoding="utf-8", xml_declaration=True) + b"\n"
