"""Packed buffer views: streams of the reference encoder (meshoptimizer 0.21), and files that use them."""

from __future__ import annotations

import base64

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from maquette.errors import MaquetteError
from maquette_data3d.ingest.gltf.meshopt import decode
from maquette_data3d.ingest.reading import read
from tests.data3d.mesh_files import FACES, VERTICES, Gltf

ATTRIBUTES = (
    "oAYGZmZmZmZmZv8AAAAGBgYGBwAkcLj7s2cfLHTA96tjFzD/AAAAfMTvpwYCIyIyIyIyI64AAAADAAE///wAFhYWFhYWFhYWygUVVVVVVQAAAAcA0tLS"
    "0lKtUq1N8k3yzY3N/wAAAI3SktIFAICAgIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAHAP8AAA=="
)
TRIANGLES = "4f4eEA4QDo4eFA4TDo4eEw4TDv//X//+Dwj/E/4N5Q3/HQBMK/8VAvoNAAB2h1ZneKmGZYlomAFpAAA="
SEQUENCE = "0QAEDAoQAgoEDAoQAgoEDAoQAgYEDAoQAgoEDAoQAgoEDAoQAgYEDAoQAgoEDAoQAgoEDAoQAiKRHDA6AO8aiByLATUrBQQfBQUAAAAA"
CELLS = [(r * 4 + c, r * 4 + c + 1, r * 4 + c + 4) for r in range(3) for c in range(3)]
GRID = [t for a, b, c in CELLS for t in ((a, b, c), (b, c + 1, c))]
STRAY = [(5, 900, 17), (2, 2, 40), (900, 5, 18), (7, 8, 901), (0, 1, 2)]


def unpack(text, count, stride, mode, kept="NONE"):
    return decode(base64.b64decode(text), count, stride, mode, kept)


def test_attributes_of_the_reference_encoder_decode_exactly():
    rows = [
        [i * 3, (i * i * 37) >> 1, i % 3, 7, i * 11 if i < 10 else 200, 255 - i, (i * 97) ^ (i << 3), i >> 2]
        for i in range(20)
    ]
    found = np.frombuffer(unpack(ATTRIBUTES, 20, 8, "ATTRIBUTES"), np.uint8).reshape(20, 8)
    assert np.array_equal(found, np.array(rows) & 255)


def test_indices_of_the_reference_encoder_decode_exactly():
    wanted = np.array(GRID + STRAY)
    found = np.frombuffer(unpack(SEQUENCE, wanted.size, 4, "INDICES"), np.uint32)
    assert np.array_equal(found.reshape(-1, 3), wanted)
    found = np.frombuffer(unpack(TRIANGLES, wanted.size, 4, "TRIANGLES"), np.uint32).reshape(-1, 3)
    # This mode may begin a triangle with another corner, but never turns it round.
    turned = [np.roll(wanted, step, 1) for step in range(3)]
    assert np.logical_or.reduce([(found == one).all(1) for one in turned]).all()
    assert (
        np.frombuffer(unpack(TRIANGLES, wanted.size, 2, "TRIANGLES"), np.uint16).tolist() == found.reshape(-1).tolist()
    )


def test_filters_give_back_the_vectors():
    vectors = np.array([[0.6, -0.64, 0.48], [-0.8, 0, -0.6], [0, 0, -1], [0.36, 0.48, -0.8]])
    small = "oAE/AAAAqgNJAT8AAADKkjcAATwAAAAEAwAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAs0X9/"
    found = np.frombuffer(unpack(small, 4, 4, "ATTRIBUTES", "OCTAHEDRAL"), np.int8).reshape(4, 4)
    assert np.abs(found[:, :3] / 127 - vectors).max() < 0.012 and found[:, 3].tolist() == [127, -127, 127, 127]
    large = "oAE/AAAAbgOtAT8AAAATHgMBPwAAAM7bfgE9AAAADAgAAAE8AAAABAMBJAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAMoCBv3/B/9/"
    found = np.frombuffer(unpack(large, 4, 8, "ATTRIBUTES", "OCTAHEDRAL"), np.int16).reshape(4, 4)
    assert np.abs(found[:, :3] / 32767 - vectors).max() < 1e-3
    floats = (
        "oAE/AAAAZsv1AT8AAABZNBYBGAAAAAABMwAAAPa4ATMAAAAqHgEgAAAAAAE/AAAA4mbMAT8AAABFFwwBEAAAAAAAATwAAAB/gAEYAAAAAAAAAAAAAAAA"
        "AAAAAAAAAAAzEwDzhev/81wPAPMAIADz"
    )
    found = np.frombuffer(unpack(floats, 4, 16, "ATTRIBUTES", "EXPONENTIAL"), np.float32).reshape(4, 4)
    assert np.abs(found[:, :3] - vectors).max() < 1e-4
    turns = np.array([[0.5, -0.5, 0.5, 0.5], [0.1, 0.7, -0.1, -0.7], [0.96, 0.28, 0, 0], [0, 0, 0, 1]])
    packed = (
        "oAE/AAAAaMitAT8AAABIRjEBPAAAAMq0ATwAAADZgAE8AAAAZxkBPAAAAEcRAScAAAAGAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
        "AAAAAL/SQS1BLfw/"
    )
    found = np.frombuffer(unpack(packed, 4, 8, "ATTRIBUTES", "QUATERNION"), np.int16).reshape(4, 4) / 32767
    # A quaternion and its negative are one rotation.
    assert np.minimum(np.abs(found - turns).max(1), np.abs(found + turns).max(1)).max() < 1e-3


def packed_attributes(array):
    """A plain stream of mode 0: every delta a full byte, one block, up to 256 rows of at most 32 bytes."""
    rows = np.ascontiguousarray(array).view(np.uint8).reshape(len(array), -1)
    padded = np.concatenate([rows, np.repeat(rows[-1:], -len(rows) % 16, 0)])
    deltas = np.diff(padded.astype(np.int16), axis=0, prepend=rows[:1].astype(np.int16)).astype(np.int8)
    codes = ((deltas.astype(np.int16) << 1) ^ (deltas >> 7)).astype(np.uint8)
    groups = len(padded) // 16
    header = bytes([0xFF] * ((groups + 3) // 4))
    body = b"".join(header + codes[:, byte].tobytes() for byte in range(rows.shape[1]))
    return b"\xa0" + body + rows[0].tobytes().rjust(32, b"\0")


def packed_gltf(change=None):
    made = Gltf()
    positions, faces = VERTICES.astype("<f4"), FACES.reshape(-1).astype("<u4")
    places = []
    deltas = np.diff(faces.astype(int), prepend=0)
    sequence = b"\xd1" + bytes(int(((d << 1) ^ (d >> 7)) << 1 & 0x7F) for d in deltas) + b"\0" * 4
    streams = [(packed_attributes(positions), 4, 12, "ATTRIBUTES"), (sequence, 12, 4, "INDICES")]
    if change:
        streams[0] = (change(streams[0][0]), *streams[0][1:])
    for stream, count, stride, mode in streams:
        packed = {"buffer": 0, "byteOffset": len(made.blob), "byteLength": len(stream), "byteStride": stride}
        made.blob += stream
        extension = {"EXT_meshopt_compression": {**packed, "count": count, "mode": mode}}
        view = {"buffer": 1, "byteOffset": 0, "byteLength": count * stride, "extensions": extension}
        made.json["bufferViews"].append(view)
        places.append(len(made.json["bufferViews"]) - 1)
    made.json["buffers"].append({"byteLength": 96, "extensions": {"EXT_meshopt_compression": {"fallback": True}}})
    made.json["extensionsRequired"] = made.json["extensionsUsed"] = ["EXT_meshopt_compression"]
    vertex = made.accessor(positions, bufferView=places[0])
    return made.mesh({"POSITION": vertex}, made.accessor(faces, bufferView=places[1]))


def test_a_file_of_packed_views_is_read(tmp_path):
    found = read(packed_gltf().glb(tmp_path / "a.glb"))
    assert np.allclose(found.vertices, VERTICES) and np.array_equal(found.faces, FACES)


def test_garbage_in_a_packed_view_is_refused(tmp_path):
    for change, reason in (
        (lambda s: b"\xa0" + b"\x55" * (len(s) - 1), "unreadable"),
        (lambda s: s[: len(s) // 2], "unreadable"),
        (lambda s: b"\xa1" + s[1:], "unsupported"),
        (lambda s: b"\x17" + s[1:], "unreadable"),
    ):
        with pytest.raises(MaquetteError, match=reason):
            read(packed_gltf(change).glb(tmp_path / "a.glb"))


def test_a_packed_view_may_not_claim_more_than_its_bytes_can_hold(tmp_path):
    made = packed_gltf()
    made.json["bufferViews"][0]["byteLength"] = 12 * 10**9
    made.json["bufferViews"][0]["extensions"]["EXT_meshopt_compression"]["count"] = 10**9
    with pytest.raises(MaquetteError, match="declared_size"):
        read(made.glb(tmp_path / "a.glb"))


@given(
    content=st.binary(max_size=200),
    shape=st.sampled_from(
        [("ATTRIBUTES", 0xA0, 4), ("ATTRIBUTES", 0xA0, 16), ("TRIANGLES", 0xE1, 4), ("INDICES", 0xD1, 2)]
    ),
    count=st.integers(0, 300),
)
def test_any_bytes_decode_to_the_declared_size_or_are_refused(content, shape, count):
    mode, mark, stride = shape
    try:
        found = decode(bytes([mark]) + content, count * 3, stride, mode)
    except MaquetteError as error:
        assert "unreadable" in str(error)
    else:
        assert len(found) == count * 3 * stride
