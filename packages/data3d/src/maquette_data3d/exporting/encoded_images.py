"""Images as files: their kind by their first bytes, and turned into another kind where a format takes few."""

from __future__ import annotations

import io

from maquette.errors import MaquetteError

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
    from PIL import Image

    try:
        with Image.open(io.BytesIO(content)) as image:
            out = io.BytesIO()
            image.convert("RGBA" if "A" in image.getbands() else "RGB").save(out, "PNG")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise MaquetteError(f"an image of the mesh does not decode ({type(error).__name__})") from error
    return out.getvalue(), "png"
