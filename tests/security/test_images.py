"""Images of strangers: few formats, bounded pixels, the first frame, one kind of error."""

import io
import struct
import tracemalloc
import zlib

import numpy as np
import pytest
from PIL import Image

from maquette.errors import MaquetteError
from maquette.image_loading import RARE_FORMATS, ImageTooLargeError, decoded_image


def encoded(kind, **options):
    file = io.BytesIO()
    Image.fromarray(np.arange(48, dtype=np.uint8).reshape(4, 4, 3)).save(file, kind, **options)
    return file.getvalue()


def png(width, height, data=b"\0" * 1000, extra=b""):
    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + extra + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")


def webp(kind, body):
    content = b"WEBP" + kind + struct.pack("<I", len(body)) + body
    return b"RIFF" + struct.pack("<I", len(content)) + content


WIDE = (16_382).to_bytes(3, "little")
BOMBS = {
    "png": png(60_000, 60_000),
    "png just above": png(8193, 8192),
    "webp extended": webp(b"VP8X", b"\0" * 4 + WIDE + WIDE),
    "webp lossless": webp(b"VP8L", b"\x2f" + struct.pack("<I", 16_382 | 16_382 << 14) + b"\0" * 8),
    "webp lossy": webp(b"VP8 ", b"\0\0\0\x9d\x01\x2a" + struct.pack("<HH", 16_383, 16_383) + b"\0" * 8),
    "bmp": b"BM" + struct.pack("<IHHIIiiHHIIiiII", 100, 0, 0, 54, 40, 30_000, 30_000, 1, 24, 0, 0, 0, 0, 0, 0),
    "gif": b"GIF89a" + struct.pack("<HHBBB", 65_535, 65_535, 0, 0, 0) + b",\0\0\0\0\xff\xff\xff\xff\0\x02\0;",
}
OTHERS = {
    "tiff": encoded("TIFF"),
    "svg": b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>',
    "eps": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n(/etc/passwd) run\n",
    "ppm": b"P6 4 4 255\n" + b"\0" * 48,
    "icon": encoded("ICO"),
    "nothing": b"",
    "words": b"Dear diary",
}


@pytest.mark.parametrize("name", BOMBS)
def test_bombs_are_refused_by_what_they_declare(name):
    tracemalloc.start()
    with pytest.raises(ImageTooLargeError, match="large_image"):
        decoded_image(BOMBS[name])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 * 2**20


@pytest.mark.parametrize("name", OTHERS)
def test_other_formats_are_refused(name):
    with pytest.raises(MaquetteError, match="none of PNG, JPEG, WEBP, GIF, BMP"):
        decoded_image(OTHERS[name])


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "BMP"])
def test_usual_formats_are_read(kind):
    assert decoded_image(encoded(kind)).shape == (4, 4, 4)


@pytest.mark.parametrize("kind", ["TGA", "TIFF"])
def test_rare_formats_are_read_where_they_are_asked_for(kind):
    assert decoded_image(encoded(kind), "RGB", RARE_FORMATS).shape == (4, 4, 3)


def test_only_the_first_frame_is_decoded():
    frames = [Image.fromarray(np.full((4, 4, 3), shade, np.uint8)) for shade in range(0, 250, 5)]
    for kind in ("GIF", "WEBP", "PNG"):
        file = io.BytesIO()
        frames[0].save(file, kind, save_all=True, append_images=frames[1:])
        assert not decoded_image(file.getvalue(), "RGB").any()


def test_a_text_chunk_that_inflates_is_refused():
    content = b"Comment\0\0" + zlib.compress(b"0" * 2**25)
    chunk = struct.pack(">I", len(content)) + b"zTXt" + content + struct.pack(">I", zlib.crc32(b"zTXt" + content))
    tracemalloc.start()
    with pytest.raises(MaquetteError):
        decoded_image(png(4, 4, b"\0" * 20, chunk))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**24


def test_files_that_are_not_there_and_too_long(tmp_path):
    with pytest.raises(FileNotFoundError):
        decoded_image(tmp_path / "none.png")
    with (tmp_path / "long.png").open("wb") as file:
        file.truncate(2**29)
    with pytest.raises(ImageTooLargeError, match="bytes"):
        decoded_image(tmp_path / "long.png")
    with pytest.raises(MaquetteError, match="cannot be read"):
        decoded_image(tmp_path)
