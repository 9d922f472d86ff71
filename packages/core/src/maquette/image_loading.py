"""The one place where images are decoded, whoever sent them: known formats, few enough pixels, the first frame alone.

What a file declares is looked at before anything is allocated for it. Whatever a decoder raises at garbage comes out
as :class:`MaquetteError`.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from maquette.errors import MaquetteError

if TYPE_CHECKING:
    from PIL.Image import Image

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP")
"""Read in any process."""
RARE_FORMATS = (*FORMATS, "TGA", "TIFF")
"""Read where a file is parsed apart from everything else: their decoders are large or old."""
LARGEST_PIXELS = 64 * 2**20
LARGEST_BYTES = 256 * 2**20


class ImageTooLargeError(MaquetteError):
    """It would decode to more than memory has room for."""


@contextmanager
def opened_image(
    source: bytes | Path, formats: tuple[str, ...] = FORMATS, largest_pixels: int = LARGEST_PIXELS
) -> Iterator[Image]:
    """An image that has been looked at but not decoded; decode it inside the ``with``, and do nothing else there.

    Args:
        source: an encoded image or the path of one.
        formats: Pillow's names of those that are tried.
        largest_pixels: that it may declare.

    Raises:
        FileNotFoundError: no such file.
        ImageTooLargeError: "large_image: ...", more pixels or bytes.
        MaquetteError: it is of another format, broken, or breaks off.
    """
    import PIL.Image

    content = source if isinstance(source, bytes) else _read(source)
    try:
        _check_pixels(*_webp_size(content), largest_pixels)
        with PIL.Image.open(io.BytesIO(content), formats=formats) as image:
            _check_pixels(image.width, image.height, largest_pixels)
            yield image
    except (MaquetteError, MemoryError):
        raise
    except (PIL.Image.DecompressionBombError, PIL.Image.DecompressionBombWarning):
        raise ImageTooLargeError(f"large_image: at most {largest_pixels} pixels are read") from None
    except PIL.UnidentifiedImageError:
        raise MaquetteError(f"it is none of {', '.join(formats)}") from None
    except Exception as error:  # decoders of images raise anything at garbage
        raise MaquetteError(f"{type(error).__name__}: {' '.join(str(error).split())[:120]}") from None


def decoded_image(
    source: bytes | Path, mode: str = "RGBA", formats: tuple[str, ...] = FORMATS, largest_pixels: int = LARGEST_PIXELS
) -> NDArray[np.uint8]:
    """The texels of an image, uint8 [H, W, channels of ``mode``]; raises as :func:`opened_image`."""
    with opened_image(source, formats, largest_pixels) as image:
        return np.asarray(image.convert(mode))


def _read(path: Path) -> bytes:
    try:
        if path.stat().st_size > LARGEST_BYTES:
            raise ImageTooLargeError(f"large_image: {path.stat().st_size} bytes, at most {LARGEST_BYTES} are read")
        return path.read_bytes()
    except FileNotFoundError:
        raise
    except OSError as error:
        raise MaquetteError(f"'{path}' cannot be read: {error.strerror}") from None


def _check_pixels(width: int, height: int, most: int) -> None:
    if width * height > most:
        raise ImageTooLargeError(f"large_image: {width} x {height}, at most {most} pixels are read")


def _webp_size(content: bytes) -> tuple[int, int]:
    """Of a WebP file's canvas, whose decoder allocates before it can be asked; (0, 0) for anything else.

    Source: RFC 9649, sections 2.5 to 2.7.
    """
    if len(content) < 30 or content[:4] != b"RIFF" or content[8:12] != b"WEBP":
        return 0, 0
    kind = content[12:16]
    if kind == b"VP8X":
        wide, high = (int.from_bytes(content[at : at + 3], "little") for at in (24, 27))
        return wide + 1, high + 1
    if kind == b"VP8L":
        (bits,) = struct.unpack_from("<I", content, 21)
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    wide, high = struct.unpack_from("<HH", content, 26)
    return wide & 0x3FFF, high & 0x3FFF
