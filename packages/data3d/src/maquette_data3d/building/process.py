"""From one source to one sample: a pure function of the source and the recipe, run wherever an engine likes."""

from __future__ import annotations

import base64
import hashlib
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np

from maquette.errors import MaquetteError
from maquette_data3d.building.config import FilterConfig
from maquette_data3d.building.outcome import Outcome
from maquette_data3d.building.recipe import Recipe
from maquette_data3d.building.sources import Item, content_hash
from maquette_data3d.features.mesh_subject import MeshSubject
from maquette_data3d.features.shape_subject import ShapeSubject
from maquette_data3d.features.subject import Subject

_GRAIN = 1e-3  # positions that agree to this are the same shape
_THUMBNAIL = 96
_NAMES = 256


def process(item: Item, recipe: Recipe, picture: bool = False) -> tuple[Outcome, dict[str, np.ndarray] | None]:
    """Makes a sample, or says why not.

    Args:
        item: what to make it of.
        picture: whether a thumbnail is wanted.

    Returns:
        The outcome, without checksum, and the arrays of the recipe's features; None when it is quarantined.
    """
    making = _Making(item, recipe)
    try:
        subject = making.procedural() if item.path is None else making.mesh_file(Path(item.path))
        arrays = making.arrays(subject)
        if picture:
            making.picture(subject)
        return replace(making.found, seconds=making.seconds), arrays
    except MaquetteError as error:
        reason, _, detail = str(error).partition(": ")
        return replace(making.found, seconds=making.seconds).lost(reason, detail), None


class _Making:
    """One source on its way, with what is known of it so far: a quarantined one keeps that too."""

    def __init__(self, item: Item, recipe: Recipe) -> None:
        self.item, self.recipe = item, recipe
        self.seconds: dict[str, float] = {}
        self.found = Outcome(item.number, caption=item.caption or "", class_name=item.class_name or "")

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start

    def procedural(self) -> Subject:
        from maquette_data3d.procedural import CLASSES, sample_shape

        settings = self.recipe.settings
        with self.stage("shape"):
            classes = tuple(settings["classes"] or CLASSES)
            shape = sample_shape(settings["seed"], self.item.number, settings["variety"], classes)
        attributes = dict(shape.attributes)
        if settings["paraphrases"]:
            attributes["paraphrases"] = list(shape.captions(settings["paraphrases"] + 1)[1:])
        self.found = replace(
            self.found,
            caption=shape.caption,
            class_name=shape.class_name,
            content=_hash(np.round(shape.program.rows / _GRAIN).astype(np.int64)),
            key=self.recipe.key(self.item.name),
            attributes=attributes,
            held_out=shape.held_out,
            quality={"components": len(shape.program.part_names)},
        )
        return self._named(ShapeSubject(shape, settings["resolution"], settings["truncation"]))

    def mesh_file(self, path: Path) -> Subject:
        from maquette_data3d.building.quality import placement, quality, refused
        from maquette_data3d.building.similarity import signature
        from maquette_data3d.geometry.repair import clean
        from maquette_data3d.ingest.limits import ReadLimits
        from maquette_data3d.ingest.reading import read

        settings = self.recipe.settings
        with self.stage("hash"):
            source = content_hash(path)
        self.found = replace(self.found, source_sha256=source, key=self.recipe.key(source))
        limits = {name: settings[name] for name in ("largest_faces", "external_files", "up_axis")}
        with self.stage("read"):
            scene = read(path, ReadLimits(**limits))
        with self.stage("repair"):
            mesh = clean(scene.vertices, scene.faces, scene.corner_colors)
        if not len(mesh.faces):
            raise MaquetteError("flat: no triangle has any area")
        with self.stage("quality"):
            self.found = replace(self.found, quality=quality(scene, mesh), placement=placement(scene, mesh))
            reason = refused(self.found.quality, FilterConfig(**settings["filters"]))
            if reason:
                raise MaquetteError(f"filtered: {reason}")
            corners = np.round(mesh.vertices[mesh.faces].reshape(-1, 3) / _GRAIN).astype(np.int64)
            content, like = _hash(np.unique(corners, axis=0)), signature(mesh.vertices, mesh.faces)
            self.found = replace(self.found, content=content, signature=like)
        seed = int(hashlib.sha256(f"{source} {settings['seed']}".encode()).hexdigest()[:16], 16)
        subject = MeshSubject(scene, mesh, seed, settings["resolution"])
        with self.stage("inside"):
            bodies = subject.field.bodies
            attributes = {"open_area": round(bodies.open_area, 4)}
            self.found = replace(self.found, repairs=dict(bodies.repairs), attributes=attributes)
        return self._named(subject)

    def _named(self, subject: Subject) -> Subject:
        """Notes what parts and joints are called; numbers go to 255, so do names."""
        _, parts = subject.parts(np.zeros((0, 3), np.float32))
        rig = subject.rig()
        names = {"parts": list(parts[:_NAMES]), "joints": list(rig.names[:_NAMES]) if rig else []}
        self.found = replace(self.found, names={what: given for what, given in names.items() if any(given)})
        return subject

    def arrays(self, subject: Subject) -> dict[str, np.ndarray]:
        """What the features make of a subject, and how many tokens that is."""
        arrays: dict[str, np.ndarray] = {}
        for block, feature in zip(self.recipe.features, self.recipe.made, strict=True):
            with self.stage(str(block["name"])):
                made = feature.compute(subject)
            for name in made:
                if name in arrays:
                    raise MaquetteError(f"failed: two features store '{name}'")
            arrays.update({name: np.asarray(array, order="C") for name, array in made.items()})
        counting = (feature.tokens for feature in self.recipe.made if hasattr(feature, "tokens"))
        count = next(counting, None)
        tokens = count(arrays) if count else self.found.quality.get("faces", 0)
        self.found = replace(self.found, tokens=int(tokens))
        return arrays

    def picture(self, subject: Subject) -> None:
        """A thumbnail for the report and the index."""
        from maquette_data3d.rendering.thumbnail import thumbnail

        with self.stage("thumbnail"):
            content = thumbnail(subject.drawable(), _THUMBNAIL)
            self.found = replace(self.found, thumbnail=base64.b64encode(content).decode())


def warm_up(recipe: Recipe, procedural: bool) -> None:
    """Imports and compiles before the first deadline runs, on a small shape or a small mesh."""
    small, subject = recipe.small(), _small_shape() if procedural else _small_mesh()
    making = _Making(Item(0, "warm-up"), small)
    making.arrays(subject)
    making.picture(subject)


def _small_shape() -> Subject:
    from maquette_data3d.procedural import sample_shape

    return ShapeSubject(sample_shape(0, 0), 8, 0.1)


def _small_mesh() -> Subject:
    from maquette_data3d.building.similarity import signature
    from maquette_data3d.geometry.repair import clean
    from maquette_data3d.ingest.scene import Scene

    corners = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1.0]])
    faces = np.array([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]])
    none = np.zeros(4, np.int32)
    colors = np.zeros((4, 3, 3), np.uint8)
    scene = Scene(corners, faces, colors, None, none - 1, (), (), none, ("",), None, None, None, None, "y")
    mesh = clean(scene.vertices, scene.faces, scene.corner_colors)
    signature(mesh.vertices, mesh.faces)
    return MeshSubject(scene, mesh, 0, 8)


def _hash(array: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()
