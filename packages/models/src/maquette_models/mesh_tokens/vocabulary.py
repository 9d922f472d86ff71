"""The tokens of mesh sequences: a corner of a face is a block of the cube and an offset within it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from maquette_models.mesh_tokens.quantise import decode_places, encode_places

END, START, CLOSE = 0, 1, 2
SPECIAL = 3


@dataclass(frozen=True)
class Vocabulary:
    """Three special tokens; `blocks`^3 blocks; the same blocks again, for the centres of fans; `offsets`^3 offsets.

    A fan is CENTRE OFFSET, then a BLOCK, where it differs from the corner's before, and an OFFSET for each corner of
    the rim; CLOSE makes the face from the last corner back to the first.
    """

    blocks: int
    offsets: int

    @property
    def levels(self) -> int:
        """Cells a side of the grid."""
        return self.blocks * self.offsets

    @property
    def block(self) -> int:
        """The first block's token."""
        return SPECIAL

    @property
    def centre(self) -> int:
        """The first centre block's token."""
        return self.block + self.blocks**3

    @property
    def offset(self) -> int:
        """The first offset's token."""
        return self.centre + self.blocks**3

    @property
    def size(self) -> int:
        """Number of tokens."""
        return self.offset + self.offsets**3

    def split(self, codes: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Number of the block and number of the offset [...] of codes [...]."""
        block, offset = np.divmod(decode_places(codes, self.levels), self.offsets)
        return encode_places(block, self.blocks), encode_places(offset, self.offsets)

    def join(self, block: int, offset: int) -> int:
        """The code of a block and an offset, by number."""
        places = decode_places(np.int64(block), self.blocks) * self.offsets + decode_places(
            np.int64(offset), self.offsets
        )
        return int(encode_places(places, self.levels))
