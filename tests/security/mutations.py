"""Seeded damage to files: blind (bits, bytes, pieces) and knowing (lengths, counts and descriptions of a format)."""

from __future__ import annotations

import io
import json
import re
import struct
import zipfile
import zlib

INTEGERS = (0, 1, -1, 127, 128, 255, 256, 32767, 65535, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**63 - 1, -(2**31))
WORDS = ("-1", "0", "1e308", "nan", "inf", "-inf", "9" * 30, "4294967295", "2147483648", "0x10", "", "x", "1 2 3", "💥")
ODD = (
    None,
    -1,
    0,
    1,
    2**31,
    2**40,
    2**63,
    1e300,
    "x",
    "",
    [],
    {},
    [[]],
    True,
    [0, 0, 0],
    "../../etc/passwd",
    {"a": {}},
)
CUT = 2**16  # bytes that a piece may have


def bits(data, chance):
    for _ in range(chance.randint(1, 8)):
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)


def bytes_(data, chance):
    for _ in range(chance.randint(1, 16)):
        data[chance.randrange(len(data))] = chance.choice((0, 255, 127, 128, 10, 32, chance.randrange(256)))


def truncation(data, chance):
    del data[chance.randrange(len(data)) :]


def splice(data, chance):
    start, to = chance.randrange(len(data)), chance.randrange(len(data))
    piece = data[start : start + chance.randint(1, min(CUT, len(data)))]
    if chance.random() < 0.5:
        data[to : to + len(piece)] = piece
    else:
        data[to:to] = piece


def removal(data, chance):
    start = chance.randrange(len(data))
    del data[start : start + chance.randint(1, 64)]


def field(data, chance):
    """An integer of two, four or eight bytes replaced by an extreme one, or by one near the file's length."""
    size = chance.choice((2, 4, 8))
    if len(data) < size:
        return
    value = chance.choice((*INTEGERS, len(data), len(data) + 1, len(data) - 1)) % (1 << 8 * size)
    at = chance.randrange(len(data) - size + 1)
    at -= at % chance.choice((1, 4))
    data[at : at + size] = value.to_bytes(size, chance.choice(("little", "big")))


def number(data, chance):
    """A number in a text replaced."""
    found = list(re.finditer(rb"-?\d+(?:\.\d+)?", bytes(data[:CUT])))
    if found:
        start, end = chance.choice(found).span()
        data[start:end] = chance.choice(WORDS).encode()


def line(data, chance):
    """Lines of a text repeated, dropped or exchanged."""
    lines = bytes(data).split(b"\n")
    first, second = chance.randrange(len(lines)), chance.randrange(len(lines))
    action = chance.randrange(3)
    if action == 0:
        lines[first:first] = [lines[second]] * chance.choice((1, 2, 50))
    elif action == 1:
        del lines[first]
    else:
        lines[first], lines[second] = lines[second], lines[first]
    data[:] = b"\n".join(lines)


def places_of(tree):
    """Every value of a tree of JSON: (what holds it, its key)."""
    places = []

    def walk(node):
        for key in node if isinstance(node, dict) else range(len(node)):
            places.append((node, key))
            if isinstance(node[key], dict | list):
                walk(node[key])

    walk(tree)
    return places


def described(tree, chance):
    """Values of a tree of JSON replaced."""
    places = places_of(tree)
    for _ in range(chance.randint(1, 3) if places else 0):
        node, key = chance.choice(places)
        node[key] = chance.choice(ODD)


def json_(data, chance):
    tree = json.loads(bytes(data))
    described(tree, chance)
    data[:] = json.dumps(tree).encode()


def glb(data, chance):
    raw = bytes(data)
    (length,) = struct.unpack_from("<I", raw, 12)
    tree = json.loads(raw[20 : 20 + length])
    described(tree, chance)
    text = json.dumps(tree).encode()
    text += b" " * (-len(text) % 4)
    body = struct.pack("<I4s", len(text), b"JSON") + text + raw[20 + length :]
    data[:] = struct.pack("<4sII", b"glTF", 2, 12 + len(body)) + body


def safetensors(data, chance):
    (length,) = struct.unpack_from("<Q", data)
    tree = json.loads(bytes(data[8 : 8 + length]))
    described(tree, chance)
    text = json.dumps(tree).encode()
    data[: 8 + length] = struct.pack("<Q", len(text)) + text


def zip_directory(data, chance):
    """A field of a member's head or of the directory."""
    places = [found.start() for found in re.finditer(rb"PK(\x01\x02|\x03\x04|\x05\x06)", bytes(data))]
    at = chance.choice(places) + chance.randrange(4, 46)
    size = chance.choice((1, 2, 4))
    data[at : at + size] = (chance.choice(INTEGERS) % (1 << 8 * size)).to_bytes(size, "little")


def zip_member(data, chance):
    """A member damaged, and the archive packed again."""
    with zipfile.ZipFile(io.BytesIO(bytes(data))) as file:
        members = {name: bytearray(file.read(name)) for name in file.namelist()}
    name = chance.choice(list(members))
    if members[name]:
        chance.choice((bits, bytes_, number, line, splice, truncation))(members[name], chance)
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as file:
        for member, content in members.items():
            file.writestr(chance.choice((member, member, member, "../x", "a/b/c.obj")), bytes(content))
    data[:] = out.getvalue()


def png_chunk(data, chance):
    """The content of a chunk damaged, its checksum made right again."""
    chunks, at = [], 8
    while at + 8 <= len(data):
        (length,) = struct.unpack_from(">I", data, at)
        chunks.append((bytes(data[at + 4 : at + 8]), bytearray(data[at + 8 : at + 8 + length])))
        at += length + 12
    kind, content = chance.choice(chunks)
    if content:
        chance.choice((bits, bytes_, field))(content, chance)
    if chance.random() < 0.2:
        chunks.insert(chance.randrange(len(chunks)), (kind, content))
    packed = (
        struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + bytes(content)))
        for kind, content in chunks
    )
    data[8:] = b"".join(packed)


BLIND = (bits, bytes_, truncation, splice, removal, field)
KNOWING = {
    ".glb": (glb, glb, glb),
    ".gltf": (json_, json_, number),
    ".obj": (number, line),
    ".ply": (number, line),
    ".off": (number, line),
    ".stl": (number,),
    ".3mf": (zip_directory, zip_member, zip_member),
    ".zip": (zip_directory, zip_member),
    ".png": (png_chunk, png_chunk),
    ".safetensors": (safetensors, safetensors),
    ".json": (json_, json_, number),
    ".yaml": (number, line),
}


def mutated(good, suffix, chance):
    """A damaged copy of a good file of a format."""
    data = bytearray(good)
    for _ in range(chance.choice((1, 1, 1, 2, 3))):
        try:
            if data:
                chance.choice((*BLIND, *KNOWING.get(suffix, ())))(data, chance)
        except (
            ValueError,
            struct.error,
            zipfile.BadZipFile,
            zlib.error,
            RecursionError,
            IndexError,
            NotImplementedError,
        ):
            continue  # what was damaged before is no longer of the format
    return bytes(data)
