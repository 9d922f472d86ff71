"""The specifications of ``hilbert_encode`` and ``hilbert_decode``."""

from __future__ import annotations

from maquette_kernels.curves import codes
from maquette_kernels.curves.hilbert.reference import decode, encode
from maquette_kernels.operation import NoSettings, Operation

PACKAGE = "maquette_kernels.curves.hilbert"

HILBERT_ENCODE = codes.encoder("hilbert_encode", PACKAGE, encode, lambda bits: 60 + 20 * bits)
HILBERT_DECODE = codes.decoder("hilbert_decode", PACKAGE, decode, lambda bits: 54 + 20 * bits)


def build_encode(config: NoSettings) -> Operation:
    """Hilbert codes of voxels: consecutive codes share a face."""
    return HILBERT_ENCODE


def build_decode(config: NoSettings) -> Operation:
    """Voxels of Hilbert codes."""
    return HILBERT_DECODE
