"""The XML of a 3MF model: read as a stream, without entities, so that its size is what it costs."""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field
from xml.parsers import expat

import numpy as np

from maquette.errors import MaquetteError

_MODEL_RELATION = "http://schemas.microsoft.com/3dmanufacturing/2013/01/3dmodel"
_USUAL = "3D/3dmodel.model"
_PRODUCTION = "http://schemas.microsoft.com/3dmanufacturing/production/2015/06"


@dataclass(frozen=True)
class Use:
    """An object placed: the model that holds it, its id, and float64 [4, 4]."""

    path: str
    key: str
    matrix: np.ndarray


@dataclass
class Object:
    """Triangles or components. `properties` has four numbers a triangle: group (-1 for none), then one a corner."""

    name: str
    points: array = field(default_factory=lambda: array("d"))
    triangles: array = field(default_factory=lambda: array("q"))
    properties: array = field(default_factory=lambda: array("q"))
    components: list[Use] = field(default_factory=list)
    group: int = -1
    index: int = 0


@dataclass
class Model:
    """One model part: objects and property groups by id, and what stands on the build plate."""

    unit: str = "millimeter"
    objects: dict[str, Object] = field(default_factory=dict)
    build: list[Use] = field(default_factory=list)
    bases: dict[str, list[tuple[str, tuple[int, ...]]]] = field(default_factory=dict)
    colors: dict[str, list[tuple[int, ...]]] = field(default_factory=dict)
    textures: dict[str, tuple[str, list[tuple[float, float]]]] = field(default_factory=dict)
    images: dict[str, str] = field(default_factory=dict)
    keys: list[str] = field(default_factory=list)

    def number(self, key: str) -> int:
        """A small number for the id of a property group."""
        if key not in self.keys:
            self.keys.append(key)
        return self.keys.index(key)


def start_part(files: dict[str, bytes]) -> str:
    """The path of the package's first model, as its relations say."""
    found: list[str] = []

    def opened(name: str, words: dict[str, str]) -> None:
        if name.rpartition(" ")[2] == "Relationship" and words.get("Type") == _MODEL_RELATION:
            found.append(words.get("Target", "").lstrip("/"))

    if "_rels/.rels" in files:
        _stream(files["_rels/.rels"], opened)
    path = found[0] if found else _USUAL
    if path not in files:
        raise MaquetteError("wrong_extension: named .3mf but holds no 3D model")
    return path


def parsed(content: bytes, path: str) -> Model:
    """One model part.

    Raises:
        MaquetteError: "unsafe_xml: ..." for any document type; "unreadable: ..." for what is no 3MF.
    """
    reader = _Reader(path)
    _stream(content, reader.opened)
    return reader.model


def _stream(content: bytes, opened: object) -> None:
    def refused(*_: object) -> None:
        raise MaquetteError("unsafe_xml: a 3MF with a document type is not read")

    parser = expat.ParserCreate(namespace_separator=" ")
    parser.StartElementHandler = opened
    # Entities, internal and external, are declared in a document type and nowhere else.
    parser.StartDoctypeDeclHandler = refused
    parser.EntityDeclHandler = refused
    try:
        parser.Parse(content, True)
    except expat.ExpatError as error:
        raise MaquetteError(f"unreadable: its XML is broken in line {error.lineno}") from error


class _Reader:
    """Turns elements into a model as they open; the last opened object or group takes what follows."""

    def __init__(self, path: str) -> None:
        self._path = path
        self.model = Model()
        self._object = Object("")
        self._group = ""
        self._handlers = {
            "model": self._model,
            "object": self._opened_object,
            "vertex": self._vertex,
            "triangle": self._triangle,
            "component": lambda words: self._object.components.append(self._use(words)),
            "item": lambda words: self.model.build.append(self._use(words)),
            "basematerials": lambda words: self._open_group(words, self.model.bases, []),
            "colorgroup": lambda words: self._open_group(words, self.model.colors, []),
            "texture2d": self._texture,
            "texture2dgroup": lambda words: self._open_group(words, self.model.textures, (words["texid"], [])),
            "base": self._base,
            "color": lambda words: self.model.colors[self._group].append(_color(words["color"])),
            "tex2coord": self._coordinate,
        }

    def opened(self, name: str, words: dict[str, str]) -> None:
        handler = self._handlers.get(name.rpartition(" ")[2])
        if handler is not None:
            handler(words)

    def _model(self, words: dict[str, str]) -> None:
        self.model.unit = words.get("unit", "millimeter")

    def _opened_object(self, words: dict[str, str]) -> None:
        key = words["id"]
        self._object = Object(words.get("name") or f"object_{key}")
        if "pid" in words:
            self._object.group, self._object.index = self.model.number(words["pid"]), int(words.get("pindex", 0))
        self.model.objects[key] = self._object

    def _vertex(self, words: dict[str, str]) -> None:
        self._object.points.extend((float(words["x"]), float(words["y"]), float(words["z"])))

    def _triangle(self, words: dict[str, str]) -> None:
        found = self._object
        found.triangles.extend((int(words["v1"]), int(words["v2"]), int(words["v3"])))
        if "p1" not in words:
            group = self.model.number(words["pid"]) if "pid" in words else found.group
            found.properties.extend((group, found.index, found.index, found.index))
            return
        group = self.model.number(words["pid"]) if "pid" in words else found.group
        first = int(words["p1"])
        found.properties.extend((group, first, int(words.get("p2", first)), int(words.get("p3", first))))

    def _use(self, words: dict[str, str]) -> Use:
        path = words.get(f"{_PRODUCTION} path", self._path).lstrip("/")
        matrix = np.eye(4)
        if "transform" in words:
            values = [float(value) for value in words["transform"].split()]
            if len(values) != 12:
                raise MaquetteError("unreadable: a transform of a 3MF has not 12 numbers")
            matrix[:3] = np.array(values).reshape(4, 3).T  # written for row vectors
        return Use(path, words["objectid"], matrix)

    def _open_group(self, words: dict[str, str], groups: dict, empty: object) -> None:
        self._group = words["id"]
        groups[self._group] = empty

    def _texture(self, words: dict[str, str]) -> None:
        self.model.images[words["id"]] = words["path"].lstrip("/")

    def _base(self, words: dict[str, str]) -> None:
        self.model.bases[self._group].append((words.get("name", ""), _color(words["displaycolor"])))

    def _coordinate(self, words: dict[str, str]) -> None:
        self.model.textures[self._group][1].append((float(words["u"]), float(words["v"])))


def _color(text: str) -> tuple[int, ...]:
    """sRGB and opacity, 0-255, of #RRGGBB or #RRGGBBAA."""
    digits = text.removeprefix("#")
    if len(digits) not in (6, 8):
        raise MaquetteError(f"unreadable: {text[:20]!r} is no color of a 3MF")
    return (*bytes.fromhex(digits), 255)[:4]
