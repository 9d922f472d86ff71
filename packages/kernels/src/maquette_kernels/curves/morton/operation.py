"""The specifications of ``morton_encode`` and ``morton_decode``."""

from __future__ import annotations

from maquette_kernels.curves import codes
from maquette_kernels.curves.morton.reference import decode, encode
from maquette_kernels.operation import NoSettings, Operation

PACKAGE = "maquette_kernels.curves.morton"

MORTON_ENCODE = codes.encoder("morton_encode", PACKAGE, encode, lambda bits: 52)
MORTON_DECODE = codes.decoder("morton_decode", PACKAGE, decode, lambda bits: 52)


def build_encode(config: NoSettings) -> Operation:
    """Morton codes (z-order) of voxels, x in the lowest bit."""
    return MORTON_ENCODE


def build_decode(config: NoSettings) -> Operation:
    """Voxels of Morton codes."""
    return MORTON_DECODE
