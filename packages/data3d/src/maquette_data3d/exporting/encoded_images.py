"""Images as files: their kind by their first bytes, and turned into another kind where a format takes few."""

from __future__ import annotations

import io

from maquette.errors import MaquetteError
from maquette.image_loading import opened_image

MIME = {"png": "image/png", "jpg": "image/jpeg", "webp": "image/webp"}


def kind_of(content: bytes) -> str:
    """What an image is: "png", "jpg" or "webp".

    Raises:
        MaquetteError: none of the three.
    """
    if content.startswith(b"\x89PNG\r\n\x1a\n"):
        return "png"
    if content.startswith(b"\xff\xd8\xff"):
        return "jpg"
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        return "webp"
    raise MaquetteError("an image of the mesh is no PNG, JPEG or WebP file")


def as_one_of(content: bytes, kinds: tuple[str, ...]) -> tuple[bytes, str]:
    """The image and its kind: as it is where its kind is one of `kinds`, else as a PNG of the same texels."""
    kind = kind_of(content)
    if kind in kinds:
        return content, kind
    out = io.BytesIO()
    try:
        with opened_image(content) as image:
            image.convert("RGBA" if "A" in image.getbands() else "RGB").save(out, "PNG")
    except MaquetteError as error:
        raise MaquetteError(f"an image of the mesh does not decode ({error})") from None
    return out.getvalue(), "png"
