"""Objects of an FBX, numbered, and what is connected to what."""

from __future__ import annotations

from collections import Counter

from maquette_data3d.exporting.fbx.records import CREATION_TIME, FILE_ID, VERSION, Long, Record, Value, file_of

TICKS = 46_186_158_000
"""Time units a second."""
_FIRST_ID = 1_000_000


class Document:
    """One file under construction."""

    def __init__(self, unit_m: float) -> None:
        self._unit_m = unit_m
        self._objects = Record("Objects")
        self._connections = Record("Connections")
        self._counts: Counter[str] = Counter()

    def add(self, kind: str, name: str, tag: str, flavour: str) -> tuple[int, Record]:
        """A new object and its number.

        Args:
            kind: of the record, e.g. "Model".
            tag: the class behind its name, mostly the kind.
            flavour: e.g. "Mesh" or "LimbNode".
        """
        self._counts[kind] += 1
        number = _FIRST_ID + sum(self._counts.values())
        return number, self._objects.add(kind, Long(number), f"{name}\0\1{tag}", flavour)

    def connect(self, child: int, parent: int, place: str | None = None) -> None:
        """Hangs an object on another (0 is the scene), or on a property of it."""
        if place is None:
            self._connections.add("C", "OO", Long(child), Long(parent))
        else:
            self._connections.add("C", "OP", Long(child), Long(parent), place)

    def content(self) -> bytes:
        """The file."""
        return file_of(
            [
                _header(),
                Record("FileId", [FILE_ID]),
                Record("CreationTime", [CREATION_TIME]),
                Record("Creator", ["maquette"]),
                self._settings(),
                _documents(),
                Record("References"),
                self._definitions(),
                self._objects,
                self._connections,
                Record("Takes", [], [Record("Current", [""])]),
            ]
        )

    def _settings(self) -> Record:
        axes = {"UpAxis": 1, "FrontAxis": 2, "CoordAxis": 0, "OriginalUpAxis": 1}
        rows: list[tuple[str, str, str, str, tuple[Value | Long, ...]]] = []
        for name, axis in axes.items():
            rows.append((name, "int", "Integer", "", (axis,)))
            rows.append((f"{name}Sign", "int", "Integer", "", (1,)))
        centimetres = self._unit_m * 100
        for name in ("UnitScaleFactor", "OriginalUnitScaleFactor"):
            rows.append((name, "double", "Number", "", (centimetres,)))
        settings = Record("GlobalSettings", [], [Record("Version", [1000])])
        settings.properties(rows)
        return settings

    def _definitions(self) -> Record:
        definitions = Record("Definitions", [], [Record("Version", [100])])
        counts = {"GlobalSettings": 1, **self._counts}
        definitions.add("Count", sum(counts.values()))
        for kind, count in counts.items():
            definitions.add("ObjectType", kind).add("Count", count)
        return definitions


def _header() -> Record:
    header = Record("FBXHeaderExtension")
    header.add("FBXHeaderVersion", 1003)
    header.add("FBXVersion", VERSION)
    header.add("Creator", "maquette")
    return header


def _documents() -> Record:
    documents = Record("Documents", [], [Record("Count", [1])])
    scene = documents.add("Document", Long(_FIRST_ID), "", "Scene")
    scene.add("RootNode", Long(0))
    return documents
