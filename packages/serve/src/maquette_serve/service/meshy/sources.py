"""The pictures and meshes of an order: of other tasks, of data URIs, or from public servers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from urllib.parse import parse_qs, urlsplit

from fastapi import HTTPException

from maquette.errors import MaquetteError
from maquette_serve.service.fetching import PublicServers, data_of
from maquette_serve.service.keys import Key
from maquette_serve.service.meshy.links import PREFIX, Links
from maquette_serve.service.native import read_meshes
from maquette_serve.service.orders import MODEL
from maquette_serve.service.service import Service
from maquette_serve.service.task import SUCCEEDED, Task

_MESH_KINDS = {
    "model/gltf-binary": ".glb",
    "model/gltf+json": ".gltf",
    "model/obj": ".obj",
    "model/stl": ".stl",
    "model/3mf": ".3mf",
}


@dataclass(frozen=True)
class Sources:
    """Finds what an order names, for the key that orders.

    Args:
        service: that has the tasks.
        servers: where the rest is fetched.
        links: those that lead to our own files.
        key: of the caller.
        place: the key below which files that are fetched come.
        base: of this server's own addresses.
        painter_reads: what the pipeline that paints can be told: "text", "image", or nothing where there is none.
    """

    service: Service
    servers: PublicServers
    links: Links
    key: Key
    place: str
    base: str
    painter_reads: frozenset[str] = frozenset()

    def task(self, identity: str, kind: str = "") -> Task:
        """A task of the caller's that has a mesh.

        Raises:
            HTTPException: 404 where there is none of that id (and kind).
            MaquetteError: it has not succeeded.
        """
        task = self.service.store.get(identity, self.key.id)
        if task is None or (kind and task.kind != kind):
            raise HTTPException(404, f"there is no {kind or 'such'} task '{identity}'")
        if task.status != SUCCEEDED:
            raise MaquetteError(f"task '{identity}' is {task.status}; only one that SUCCEEDED has a mesh")
        return task

    def mesh_of(self, task: Task) -> str:
        """The key of a task's mesh.

        Raises:
            MaquetteError: it made none.
        """
        if MODEL not in task.files:
            raise MaquetteError(f"task '{task.id}' made no {MODEL}")
        return task.files[MODEL]

    def mesh(self, input_task_id: str | None, model_url: str | None) -> str:
        """The key of a mesh, of a task or from an address.

        Raises:
            HTTPException: 404, no such task.
            MaquetteError: no mesh, or none that can be read here.
        """
        if input_task_id:
            return self.mesh_of(self.task(input_task_id))
        assert model_url  # bodies have one of the two
        own = self._own_file(model_url)
        if own is not None:
            return own
        kind, content = self._content(model_url)
        known = read_meshes()
        suffix = _MESH_KINDS.get(kind) or PurePosixPath(urlsplit(model_url[:2000]).path).suffix.lower()
        suffix = ".glb" if content[:4] == b"glTF" else suffix
        if suffix not in known:
            raise MaquetteError(f"model_url: '{suffix or kind}' is not a mesh that can be read: {', '.join(known)}")
        return self._kept(content, suffix)

    def pictures(self, addresses: Sequence[str | None]) -> list[str]:
        """The keys of pictures; None among the addresses is left out.

        Raises:
            MaquetteError: one cannot be fetched, or is no PNG, JPEG or WebP.
        """
        return [self._picture(address) for address in addresses if address]

    def _picture(self, address: str) -> str:
        own = self._own_file(address)
        if own is not None:
            return own
        content = self._content(address)[1]
        if content.startswith(b"\x89PNG"):
            return self._kept(content, ".png")
        if content.startswith(b"\xff\xd8\xff"):
            return self._kept(content, ".jpg")
        if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
            return self._kept(content, ".webp")
        raise MaquetteError("the picture is neither PNG, JPEG nor WebP")

    def _content(self, address: str) -> tuple[str, bytes]:
        if address.startswith("data:"):
            return data_of(address)
        answer = self.servers.fetch(address)
        return answer.headers.get("content-type", "").split(";")[0].strip().lower(), answer.content

    def _own_file(self, address: str) -> str | None:
        """The key of an address that was given out here: it needs no way round through the network."""
        if not address.startswith(f"{self.base}{PREFIX}/"):
            return None
        parts = urlsplit(address)
        identity, _, name = parts.path.removeprefix(f"{PREFIX}/").partition("/")
        query = {key: values[0] for key, values in parse_qs(parts.query).items()}
        expires, signature = query.get("expires", ""), query.get("signature", "")
        task = self.service.store.get(identity)
        if task is None or not expires.isdigit() or not self.links.holds(identity, name, int(expires), signature):
            raise MaquetteError("this address of a file here does not hold (any more)")
        if name not in task.files:
            raise MaquetteError(f"'{name}' cannot be taken from here; download it and send it as a data URI")
        return task.files[name]

    def _kept(self, content: bytes, suffix: str) -> str:
        folder = self.service.files.path(self.place)
        folder.mkdir(parents=True, exist_ok=True)
        key = f"{self.place}/{len(list(folder.iterdir()))}{suffix}"
        self.service.files.path(key).write_bytes(content)
        self.service.files.keep([key])
        return key
