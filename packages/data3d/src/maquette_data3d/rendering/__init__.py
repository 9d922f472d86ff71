"""Pictures of meshes without a display."""

from __future__ import annotations

from maquette_data3d.rendering.camera import Camera
from maquette_data3d.rendering.contact_sheet import contact_sheet
from maquette_data3d.rendering.picture import Picture, render

__all__ = ["Camera", "Picture", "contact_sheet", "render"]
