"""Primitives packed with Draco (KHR_draco_mesh_compression), unpacked by DracoPy."""

from __future__ import annotations

from typing import Any

import numpy as np

from maquette.errors import MaquetteError
from maquette_data3d.ingest.gltf.accessors import scaled
from maquette_data3d.ingest.gltf.document import Document


def unpacked(
    document: Document, primitive: dict[str, Any], packed: dict[str, Any]
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Faces int64 [F, 3], and float64 [V, C] by the attribute's name.

    Raises:
        MaquetteError: "missing_library: ..." without DracoPy; "unreadable: ..." for broken geometry.
    """
    try:
        import DracoPy
    except ImportError as error:
        raise MaquetteError("missing_library: Draco geometry needs the package DracoPy") from error
    mesh = DracoPy.decode(document.view(packed["bufferView"]))
    if not hasattr(mesh, "faces"):
        raise MaquetteError("unreadable: Draco holds points, no triangles")
    by_number = {attribute["unique_id"]: attribute["data"] for attribute in mesh.attributes}
    found = {}
    for name, number in packed["attributes"].items():
        if number not in by_number:
            raise MaquetteError(f"unreadable: Draco has no attribute {str(number)[:20]} for {str(name)[:20]}")
        accessor = document.entry("accessors", primitive["attributes"][name])
        data = np.asarray(by_number[number])
        found[str(name)] = scaled(data.reshape(len(data), -1), bool(accessor.get("normalized")))
    return np.asarray(mesh.faces, np.int64).reshape(-1, 3), found
