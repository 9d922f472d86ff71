"""Arrays of a primitive as they lie in the file: plain, packed by Draco, or packed by meshopt."""

from __future__ import annotations

from typing import Any

import numpy as np

from maquette.errors import MaquetteError
from maquette_data3d.exporting.gltf.buffers import ARRAY, ELEMENTS, Document, described

_DRACO, _MESHOPT = "KHR_draco_mesh_compression", "EXT_meshopt_compression"


def primitive(
    document: Document, attributes: dict[str, np.ndarray], faces: np.ndarray, compression: str, draco_bits: int
) -> dict[str, Any]:
    """A primitive's entry; attributes are [N, components] by name, faces int64 [F, 3]."""
    if compression == "draco":
        return _draco(document, attributes, faces, draco_bits)
    count = len(attributes["POSITION"])
    # The largest number of a type restarts a strip and is not for vertices.
    index = faces.reshape(-1).astype(np.uint16 if count < 65535 else np.uint32)
    if compression == "meshopt":
        return _meshopt(document, attributes, index)
    places = {
        name: document.accessor(values, ARRAY, normalized=name == "COLOR_0") for name, values in attributes.items()
    }
    return {"attributes": places, "indices": document.accessor(index, ELEMENTS)}


def _draco(document: Document, attributes: dict[str, np.ndarray], faces: np.ndarray, bits: int) -> dict[str, Any]:
    import DracoPy

    names = [name for name in attributes if name != "POSITION"]
    content = DracoPy.encode(
        attributes["POSITION"],
        faces.astype(np.uint32),
        quantization_bits=bits,
        generic_attributes={number: attributes[name] for number, name in enumerate(names, 1)},
    )
    # What comes out of it, as readers will see it: points in another order, without faces of no area.
    decoded = DracoPy.decode(content)
    found = {attribute["unique_id"]: np.asarray(attribute["data"]) for attribute in decoded.attributes}
    place = next(attribute["unique_id"] for attribute in decoded.attributes if attribute["attribute_type"] == 0)
    numbers = {"POSITION": place, **{name: number for number, name in enumerate(names, 1)}}
    places = {}
    for name, number in numbers.items():
        values = found[number].reshape(len(decoded.points), -1).astype(attributes[name].dtype)
        entry = described(values) | ({"normalized": True} if name == "COLOR_0" else {})
        places[name] = document.add("accessors", entry)
    index = document.add("accessors", described(np.asarray(decoded.faces, np.uint32).reshape(-1)))
    document.needs(_DRACO, required=True)
    packed_geometry = {"bufferView": document.view(content), "attributes": numbers}
    return {"attributes": places, "indices": index, "extensions": {_DRACO: packed_geometry}}


def _meshopt(document: Document, attributes: dict[str, np.ndarray], index: np.ndarray) -> dict[str, Any]:
    try:
        import meshopt
    except ImportError as error:
        raise MaquetteError("compression=meshopt needs the package meshopt (pip install meshopt)") from error
    document.needs(_MESHOPT, required=True)
    if not document.json["buffers"]:
        document.json["buffers"].append({"byteLength": 0, "extensions": {_MESHOPT: {"fallback": True}}})

    def view(values: np.ndarray, mode: str, target: int) -> int:
        rows = np.ascontiguousarray(values.reshape(len(values), -1))
        stride = rows.dtype.itemsize * rows.shape[1]
        words = rows.view(np.uint8).reshape(len(rows), stride) if mode == "ATTRIBUTES" else values
        content = meshopt.encode_gltf_buffer(words, mode)
        unpacked = document.json["buffers"][0]
        start = unpacked["byteLength"] + -unpacked["byteLength"] % 4
        unpacked["byteLength"] = start + rows.nbytes
        entry = {"buffer": 1, "byteOffset": start, "byteLength": rows.nbytes, "target": target}
        place = {"buffer": 0, "byteOffset": document.place(content), "byteLength": len(content)}
        entry["extensions"] = {_MESHOPT: {**place, "byteStride": stride, "mode": mode, "count": len(rows)}}
        if target == ARRAY:
            entry["byteStride"] = stride
        return document.add("bufferViews", entry)

    def accessor(values: np.ndarray, mode: str, target: int, normalized: bool = False) -> int:
        more = {"normalized": True} if normalized else {}
        return document.add("accessors", {"bufferView": view(values, mode, target), **described(values), **more})

    places = {name: accessor(rows, "ATTRIBUTES", ARRAY, name == "COLOR_0") for name, rows in attributes.items()}
    return {"attributes": places, "indices": accessor(index, "TRIANGLES", ELEMENTS)}
