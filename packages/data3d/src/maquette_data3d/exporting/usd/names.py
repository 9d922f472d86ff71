"""Names of prims: identifiers that every reader takes, with what the asset calls them beside."""

from __future__ import annotations

from typing import Any


class Names:
    """Names below one prim, each used once."""

    def __init__(self) -> None:
        self._taken: set[str] = set()

    def identifier(self, name: str) -> str:
        """A name of ASCII letters, digits and underscores that was not given out before."""
        from pxr import Tf

        wanted = Tf.MakeValidIdentifier(name.encode("ascii", "replace").decode())
        found, number = wanted, 1
        while found in self._taken:
            number += 1
            found = f"{wanted}_{number}"
        self._taken.add(found)
        return found

    def define(self, stage: Any, schema: Any, above: str, name: str) -> Any:
        """A new prim of a schema; where its name had to change, the asset's own is shown to people."""
        found = self.identifier(name)
        prim = schema.Define(stage, f"{above}/{found}").GetPrim()
        if found != name:
            prim.SetDisplayName(name.encode("utf-8", "replace").decode("utf-8"))
        return prim
