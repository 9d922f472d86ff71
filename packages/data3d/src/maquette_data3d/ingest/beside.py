"""Files beside a mesh: buffers, images, material libraries - of its own folder, or none."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote, urlparse

from maquette.errors import MaquetteError
from maquette_data3d.ingest.limits import ReadLimits


class Beside:
    """Reads what a file names, as long as it lies in the file's own folder and all of it stays in bounds."""

    def __init__(self, path: Path, limits: ReadLimits) -> None:
        self._folder = path.parent.resolve()
        self._allowed = limits.external_files
        self._left = limits.largest_bytes
        self._most = limits.largest_bytes

    def located(self, uri: str) -> Path:
        """The file behind a URI reference.

        Raises:
            MaquetteError: "outside_uri: ..." unless it is relative and inside; "missing_file: ..." if it is not there.
        """
        shown = repr(uri[:80])
        if not self._allowed:
            raise MaquetteError(f"outside_uri: {shown} is another file, and external files are not read")
        parsed = urlparse(uri)
        name = unquote(parsed.path)
        if parsed.scheme or parsed.netloc or "\x00" in name or "\\" in name:
            raise MaquetteError(f"outside_uri: {shown} is not in the file's own folder")
        target = (self._folder / name).resolve()
        if not target.is_relative_to(self._folder):
            raise MaquetteError(f"outside_uri: {shown} is not in the file's own folder")
        if not target.is_file():
            raise MaquetteError(f"missing_file: {shown} is not beside it")
        return target

    def required(self, uri: str) -> bytes:
        """The bytes behind a URI reference; as `located`, or "too_large: ..."."""
        return self._content(self.located(uri))

    def optional(self, name: str) -> bytes | None:
        """The bytes of a file that was named in some program of some machine, sought by its last part too.

        Material libraries and textures carry the paths of their authors: only what lies in this folder is taken, and
        a mesh without them is still a mesh.
        """
        if not self._allowed or not name or "\x00" in name:
            return None
        parts = name.replace("\\", "/").split("/")
        for candidate in ("/".join(parts), parts[-1]):
            try:
                target = (self._folder / candidate).resolve()
                if target.is_relative_to(self._folder) and target.is_file():
                    return self._content(target)
            except OSError:
                continue
        return self._other_case(parts[-1])

    def _other_case(self, name: str) -> bytes | None:
        for entry in sorted(self._folder.iterdir()):
            if entry.name.lower() == name.lower() and entry.is_file() and not entry.is_symlink():
                return self._content(entry)
        return None

    def _content(self, target: Path) -> bytes:
        self._left -= target.stat().st_size
        if self._left < 0:
            raise MaquetteError(f"too_large: with the files beside it more than {self._most} bytes")
        return target.read_bytes()
