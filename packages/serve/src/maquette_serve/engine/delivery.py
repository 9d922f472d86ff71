"""The end of an order's way: finishing and files. Called in another process, so that the device does not wait."""

from __future__ import annotations

from maquette.assets import export
from maquette.errors import MaquetteError
from maquette.finishing import finish
from maquette.stepping import Call, Course
from maquette.types import Asset
from maquette_serve.engine.job import Delivered, Order


def ordered(course: Course[Asset], order: Order) -> Course[Delivered]:
    """The way of an order: that of its request through the pipeline, and then what is to be done with the asset."""
    asset = yield from course
    delivered: Delivered = yield Call(deliver, (asset, order))
    return delivered


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
        export(asset, order.folder / name)
    return Delivered(asset.metadata, len(asset.mesh.faces), order.files)
