"""Archives of strangers, beside those of tests/data3d/hostile_files.py: directories that lie about what is where."""

import io
import struct
import zipfile
from pathlib import Path

import pytest

from maquette.errors import MaquetteError
from maquette_data3d.ingest.archive import opened
from maquette_data3d.ingest.limits import ReadLimits
from maquette_data3d.ingest.reading import read

LIMITS = ReadLimits(largest_bytes=64 * 2**20)
OBJ = b"v 0 0 0\nv 1 0 0\nv 0 1 0\nv 0 0 1\nf 1 3 2\nf 1 2 4\nf 1 4 3\nf 2 3 4\n"


def packed(members):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in members:
            file.writestr(name, content)
    return out.getvalue()


def overlapping():
    """A directory of a thousand members that all lie in the same place: small, and each is within bounds alone."""
    data = bytearray(packed([("a.obj", b"0" * 2**20)]))
    start = data.index(b"PK\x01\x02")
    entry = bytes(data[start : data.index(b"PK\x05\x06")])
    entries = b"".join(entry.replace(b"a.obj", b"%05d" % number) for number in range(1000))
    end = struct.pack("<4s4H2IH", b"PK\x05\x06", 0, 0, 1000, 1000, len(entries), start, 0)
    return bytes(data[:start]) + entries + end


def encrypted():
    data = bytearray(packed([("a.obj", OBJ)]))
    for mark, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(mark) + at] |= 1
    return bytes(data)


HOSTILE = {
    "overlapping members": (overlapping(), "too_large|archive_bomb|unreadable"),
    "encrypted": (encrypted(), "unreadable"),
    "a file where a folder is": (packed([("a", b"x"), ("a/b.obj", OBJ)]), "unreadable"),
    "a name of ten thousand letters": (packed([("n" * 10_000 + ".obj", OBJ)]), "unreadable"),
    "a name that leaves at its end": (packed([("a/../../../b.obj", OBJ)]), "unsafe_archive"),
    "no directory": (packed([("a.obj", OBJ)])[:-22], "unreadable"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_archives_that_lie_are_refused(tmp_path, name):
    content, reason = HOSTILE[name]
    (tmp_path / "a.zip").write_bytes(content)
    with pytest.raises(MaquetteError, match=f"^({reason}): "):
        read(tmp_path / "a.zip", LIMITS)
    assert [path.name for path in tmp_path.iterdir()] == ["a.zip"]


def test_what_was_unpacked_goes_with_the_context(tmp_path):
    (tmp_path / "a.zip").write_bytes(packed([("deep/a.obj", OBJ), ("deep/a.mtl", b"newmtl a\n")]))
    with opened(tmp_path / "a.zip", LIMITS) as inner:
        assert inner.read_bytes() == OBJ and inner.with_suffix(".mtl").exists()
        folder = Path(inner).parent.parent
        assert folder.stat().st_mode & 0o077 == 0
    assert not folder.exists()
