"""The way of an order: what is before the pipeline and after it is done by another process, which may die of a file."""

from __future__ import annotations

from dataclasses import replace

from maquette.assets import Pipeline, export, import_mesh
from maquette.errors import MaquetteError
from maquette.finishing import finish
from maquette.stepping import Call, Course
from maquette.types import Asset, Request
from maquette_serve.engine.job import Delivered, Order
from maquette_serve.picture_files import read_picture


def ordered(pipeline: Pipeline, order: Order) -> Course[Delivered]:
    """The way of an order: its files, the pipeline, and then what is to be done with the asset."""
    request = order.request
    if order.images or order.mesh is not None:
        request = yield Call(with_files, (order,))
    asset = yield from course_of(pipeline, request)
    delivered: Delivered = yield Call(deliver, (asset, order))
    return delivered


def course_of(pipeline: Pipeline, request: Request) -> Course[Asset]:
    """The way of a request through a pipeline, in one piece where the pipeline knows no steps."""
    if hasattr(pipeline, "course"):
        return pipeline.course(request)  # type: ignore[no-any-return]
    return _in_one_piece(pipeline, request)


def _in_one_piece(pipeline: Pipeline, request: Request) -> Course[Asset]:
    yield None
    return pipeline(request)


def with_files(order: Order) -> Request:
    """The request of an order with the pictures and the mesh of its files.

    Raises:
        MaquetteError: one of them is missing or cannot be read.
    """
    images = tuple(read_picture(path) for path in order.images)
    mesh = None if order.mesh is None else import_mesh(order.mesh)
    return replace(order.request, images=images or order.request.images, mesh=mesh or order.request.mesh)


def deliver(asset: Asset, order: Order) -> Delivered:
    """Finishes an asset and writes it.

    Raises:
        MaquetteError: a step or a format failed; files that were written before stay.
    """
    asset = finish(asset, order.finish)
    if order.folder is None:
        if order.files:
            raise MaquetteError(f"files are ordered ({', '.join(order.files)}) but no folder to write them to")
        return Delivered(asset.metadata, len(asset.mesh.faces), asset=asset)
    for name in order.files:
        export(asset, order.folder / name, {"size": order.picture} if name.endswith(".png") else None)
    return Delivered(asset.metadata, len(asset.mesh.faces), order.files)
