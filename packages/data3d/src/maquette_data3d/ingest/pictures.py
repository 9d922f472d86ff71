"""The images of a file: kept as found, decoded only where a color is asked of them, and never blindly."""

from __future__ import annotations

import io

import numpy as np

from maquette.errors import MaquetteError
from maquette.image_loading import RARE_FORMATS, ImageTooLargeError, decoded_image, opened_image

_KEPT = ("PNG", "JPEG", "WEBP")


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
    try:
        with opened_image(content, RARE_FORMATS) as image:
            if image.format in _KEPT:
                return content
    except ImageTooLargeError:
        raise
    except MaquetteError:
        return None
    texels = _decode(content)
    if texels is None:
        return None
    from PIL import Image

    out = io.BytesIO()
    Image.fromarray(texels).save(out, "PNG")
    return out.getvalue()


def _decode(content: bytes) -> np.ndarray | None:
    try:
        return decoded_image(content, "RGB", RARE_FORMATS)
    except MaquetteError:
        return None  # the mesh is good without
