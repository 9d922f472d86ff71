"""The images of a file: kept as found, decoded only where a color is asked of them, and never blindly."""

from __future__ import annotations

import io
import struct
import warnings
import zlib

import numpy as np

from maquette.errors import MaquetteError

_LARGEST_PIXELS = 64 * 2**20
_KEPT = ("PNG", "JPEG", "WEBP")
_READ = (*_KEPT, "BMP", "TGA", "GIF", "TIFF")


class Pictures:
    """Encoded images of one scene, numbered in order of first use."""

    def __init__(self) -> None:
        self._encoded: list[bytes] = []
        self._places: dict[bytes, int | None] = {}
        self._decoded: dict[int, np.ndarray | None] = {}

    @property
    def encoded(self) -> tuple[bytes, ...]:
        """All images, as PNG, JPEG or WebP."""
        return tuple(self._encoded)

    def add(self, content: bytes) -> int | None:
        """The place of an image; None where it is none that can be read.

        Raises:
            MaquetteError: "large_image: ..." where it would decode to more pixels than one image may have.
        """
        if content not in self._places:
            kept = _checked(content)
            self._places[content] = None if kept is None else len(self._encoded)
            if kept is not None:
                self._encoded.append(kept)
        return self._places[content]

    def texels(self, place: int) -> np.ndarray | None:
        """uint8 [H, W, 3] sRGB; None where the image breaks off or is garbage behind its head."""
        if place not in self._decoded:
            self._decoded.clear()  # one at a time: fifty decoded textures would not fit a worker
            self._decoded[place] = _decode(self._encoded[place])
        return self._decoded[place]


def _checked(content: bytes) -> bytes | None:
    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image = Image.open(io.BytesIO(content), formats=_READ)
    except Image.DecompressionBombError as error:
        raise MaquetteError("large_image: an image of more pixels than memory has room for") from error
    except (OSError, ValueError, SyntaxError, TypeError, struct.error, zlib.error, OverflowError):
        return None
    with image:
        if image.width * image.height > _LARGEST_PIXELS:
            raise MaquetteError(f"large_image: {image.width} x {image.height}, at most {_LARGEST_PIXELS} pixels")
        if image.format in _KEPT:
            return content
    texels = _decode(content)
    if texels is None:
        return None
    out = io.BytesIO()
    Image.fromarray(texels).save(out, "PNG")
    return out.getvalue()


def _decode(content: bytes) -> np.ndarray | None:
    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(content), formats=_READ) as image:
                return np.asarray(image.convert("RGB"))
    except MemoryError:
        raise
    except Exception:  # decoders of images raise anything at garbage; the mesh is good without
        return None
