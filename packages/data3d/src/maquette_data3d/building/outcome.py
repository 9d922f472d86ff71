"""What became of one source: a sample, or the reason why not."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import Any


@dataclass(frozen=True)
class Outcome:
    """One source, decided.

    Attributes:
        number: its place in the source.
        reason: None when kept, otherwise a word that docs/data.md explains; `detail` says more.
        source_sha256: of the file and what it refers to.
        key: of the source's content and the settings: equal keys give equal samples.
        content: hash of the geometry, equal for copies of a shape.
        checksum: of the sample's arrays.
        repairs: what was mended, with counts.
        attributes: of a procedural shape; of a mesh `open_area`, the share of its surface that has no inside.
        quality: faces, vertices, components, degenerate_area, flatness, textured.
        placement: scale, offset, unit_m, up_axis of the file.
        names: of the parts and the joints, in the order of their numbers.
        signature: what near duplicates are found by, hexadecimal.
        held_out: the shape has a pair of attributes that training must not see.
        thumbnail: a small picture, base64, where one was asked for.
        seconds: time each stage took; the only thing here that is not the same every time.
    """

    number: int
    reason: str | None = None
    detail: str = ""
    caption: str = ""
    class_name: str = ""
    source_sha256: str = ""
    key: str = ""
    content: str = ""
    checksum: str = ""
    tokens: int = 0
    repairs: dict[str, int] = field(default_factory=dict)
    attributes: dict[str, Any] = field(default_factory=dict)
    quality: dict[str, float] = field(default_factory=dict)
    placement: dict[str, Any] = field(default_factory=dict)
    names: dict[str, list[str]] = field(default_factory=dict)
    signature: str = ""
    held_out: bool = False
    thumbnail: str = ""
    seconds: dict[str, float] = field(default_factory=dict)

    def plain(self) -> dict[str, Any]:
        """As JSON data."""
        return asdict(self)

    def lost(self, reason: str, detail: str) -> Outcome:
        """The same source, quarantined."""
        return replace(self, reason=reason, detail=detail, checksum="", thumbnail="")
