"""glTF's old specular-glossiness materials, put into today's terms before a parser sees them.

Exporters write KHR_materials_pbrSpecularGlossiness beside or instead of the core's metallic-roughness values.
trimesh mixes the two and loses the colour; the core's values are there or follow directly.
"""

from __future__ import annotations

import io
import json
import struct
from pathlib import Path
from typing import Any

_EXTENSION = "KHR_materials_pbrSpecularGlossiness"
_HEADER, _CHUNK = 12, 8


def modern(path: Path) -> io.BytesIO | None:
    """The file with its materials rewritten, in memory; None when it has none of the old ones.

    The file's description has been checked before (see `declared`).
    """
    content = path.read_bytes()
    if _EXTENSION.encode() not in content:
        return None
    if path.suffix.lower() == ".gltf":
        document = json.loads(content.decode("utf-8-sig"))
        _rewrite(document)
        return io.BytesIO(json.dumps(document).encode())
    (length,) = struct.unpack_from("<I", content, _HEADER)
    start = _HEADER + _CHUNK
    document = json.loads(content[start : start + length].decode("utf-8-sig"))
    _rewrite(document)
    text = json.dumps(document).encode()
    text += b" " * (-len(text) % 4)
    rest = content[start + length :]
    head = struct.pack("<4sII", b"glTF", 2, start + len(text) + len(rest))
    return io.BytesIO(head + struct.pack("<I4s", len(text), b"JSON") + text + rest)


def _rewrite(document: dict[str, Any]) -> None:
    for material in document.get("materials", []):
        old = material.get("extensions", {}).pop(_EXTENSION, None)
        if old is None:
            continue
        core = material.setdefault("pbrMetallicRoughness", {"metallicFactor": 0.0})
        for ours, theirs in (("baseColorFactor", "diffuseFactor"), ("baseColorTexture", "diffuseTexture")):
            if ours not in core and theirs in old:
                core[ours] = old[theirs]
