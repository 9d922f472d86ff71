"""What a file may cost, and how any failure of a parser becomes one line."""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Iterator
from dataclasses import dataclass

from maquette.errors import MaquetteError


@dataclass(frozen=True)
class ReadLimits:
    """Bounds of reading one file.

    Attributes:
        largest_faces: triangles, instances counted.
        largest_bytes: of the file, and of what an archive or a compressed buffer inflates to.
        external_files: files beside it (buffers, images, material libraries) may be read.
        up_axis: "x", "y" or "z" to overrule what the file says; None takes the file's word, or y.
        largest_parts: nodes, objects or groups that hold triangles.
        animations: clips of skeletons are read too; only glTF's are.
    """

    largest_faces: int = 1_000_000
    largest_bytes: int = 512 * 2**20
    external_files: bool = True
    up_axis: str | None = None
    largest_parts: int = 50_000
    animations: bool = False

    def check_faces(self, count: int) -> None:
        """Raises MaquetteError where there are more triangles than wanted."""
        if count > self.largest_faces:
            raise MaquetteError(f"too_many_faces: {count}, at most {self.largest_faces} are read")

    def check_parts(self, count: int) -> None:
        """Raises MaquetteError where there are more parts than wanted."""
        if count > self.largest_parts:
            raise MaquetteError(f"too_many_parts: {count}, at most {self.largest_parts} are read")


@contextlib.contextmanager
def parsing() -> Iterator[None]:
    """Turns whatever hostile input makes a parser raise into MaquetteError("reason: detail")."""
    try:
        with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    except MaquetteError:
        raise
    except MemoryError as error:
        raise MaquetteError("memory: parsing needed more than memory_mb allows") from error
    except Exception as error:  # a parser may raise anything at hostile input
        words = " ".join(str(error).split())[:120]
        raise MaquetteError(f"unreadable: {type(error).__name__}: {words}") from error
