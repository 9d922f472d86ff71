"""Pictures of meshes without a display."""

from __future__ import annotations

from maquette_data3d.rendering.camera import Camera
from maquette_data3d.rendering.contact_sheet import contact_sheet
from maquette_data3d.rendering.lights import Lamp, Lights
from maquette_data3d.rendering.orbit import orbit
from maquette_data3d.rendering.picture import Picture, render
from maquette_data3d.rendering.surfaces import Surface
from maquette_data3d.rendering.thumbnail import thumbnail
from maquette_data3d.rendering.views import Views, render_views

__all__ = [
    "Camera",
    "Lamp",
    "Lights",
    "Picture",
    "Surface",
    "Views",
    "contact_sheet",
    "orbit",
    "render",
    "render_views",
    "thumbnail",
]
