"""A page of pictures with captions under them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from maquette.durable import whole_file
from maquette.types import Mesh
from maquette_data3d.rendering.camera import Camera
from maquette_data3d.rendering.picture import render

Tile = tuple[Mesh, str]
_PAPER, _INK, _FAINT = (250, 250, 251), (52, 56, 64), (138, 144, 153)
_LINES = 3


def contact_sheet(
    rows: Sequence[Sequence[Tile]],
    path: str | Path,
    *,
    size: int = 256,
    title: str = "",
    row_labels: Sequence[str] | None = None,
    camera: Camera | None = None,
) -> Path:
    """Writes a PNG of meshes in rows, each with its label underneath.

    Args:
        rows: rows of (mesh, label); rows may differ in length.
        path: where the PNG goes.
        size: of a tile in pixels.
        title: a line above everything.
        row_labels: a small heading above each row.
        camera: for every tile.
    """
    page = _Page(size, [[_wrapped(label, _font(size / 15), size) for _, label in row] for row in rows])
    head = int(page.large.size * 1.9) if title else 0
    row_head = int(page.small.size * 2.0) if row_labels else 0
    sheet = Image.new("RGB", page.extent(head, row_head), _PAPER)
    draw, corner = ImageDraw.Draw(sheet), _corner(size)
    if title:
        draw.text((page.margin, page.margin * 0.8), title, _INK, page.large)
    top = page.margin + head
    for number, row in enumerate(rows):
        if row_labels:
            draw.text((page.margin, top), row_labels[number].upper(), _FAINT, page.small)
        for column, (mesh, _) in enumerate(row):
            left = page.margin + column * (size + page.gap)
            sheet.paste(Image.fromarray(render(mesh, size, camera).rgb), (left, top + row_head), corner)
            for offset, words in enumerate(page.labels[number][column]):
                place = (left + size / 2, top + row_head + size + page.gap * 0.55 + offset * page.line)
                draw.text(place, words, _INK, page.text, anchor="ma")
        top += row_head + page.row_height(number)
    with whole_file(Path(path)) as temporary:
        sheet.save(temporary, optimize=True)
    return Path(path)


class _Page:
    """Where things go on a sheet of tiles of one size."""

    def __init__(self, size: int, labels: list[list[list[str]]]) -> None:
        self.size, self.labels = size, labels
        self.margin, self.gap = size // 10, size // 16
        self.text, self.small, self.large = _font(size / 15), _font(size / 18), _font(size / 9)
        self.line = int(self.text.size * 1.32)

    def row_height(self, number: int) -> int:
        """A row of tiles with as many lines under it as its longest label needs."""
        lines = max((len(label) for label in self.labels[number]), default=0)
        return self.size + self.line * lines + 2 * self.gap

    def extent(self, head: int, row_head: int) -> tuple[int, int]:
        """Width and height of the sheet."""
        columns = max((len(row) for row in self.labels), default=1)
        width = 2 * self.margin + columns * self.size + (columns - 1) * self.gap
        rows = sum(row_head + self.row_height(number) for number in range(len(self.labels)))
        return width, 2 * self.margin + head + rows - self.gap


def _corner(size: int) -> Image.Image:
    """A mask with rounded corners."""
    mask = Image.new("L", (size * 2, size * 2), 0)
    ImageDraw.Draw(mask).rounded_rectangle((0, 0, size * 2 - 1, size * 2 - 1), size // 9, 255)
    return mask.resize((size, size), Image.Resampling.LANCZOS)


def _font(size: float) -> ImageFont.FreeTypeFont:
    return ImageFont.load_default(max(size, 9))  # type: ignore[return-value]


def _wrapped(label: str, font: ImageFont.FreeTypeFont, width: int) -> list[str]:
    """The label in the fewest lines that hold it, of even length, at most `_LINES`; cut with an ellipsis."""
    words = label.split()
    for count in range(1, _LINES + 1):
        limit = width
        lines = _filled(words, font, limit)
        if len(lines) <= count:
            while len(lines) == len(_filled(words, font, limit - 2)) and limit > 8:
                limit -= 2
            return _filled(words, font, limit)
    lines = _filled(words, font, width)
    return [*lines[: _LINES - 1], _cut(" ".join(lines[_LINES - 1 :]), font, width)]


def _filled(words: list[str], font: ImageFont.FreeTypeFont, width: int) -> list[str]:
    """Words put into lines, each as full as it gets."""
    lines: list[str] = []
    for word in words:
        if lines and font.getlength(f"{lines[-1]} {word}") <= width:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return lines


def _cut(words: str, font: ImageFont.FreeTypeFont, width: int) -> str:
    if font.getlength(words) <= width:
        return words
    while words and font.getlength(words + "...") > width:
        words = words[:-1]
    return words.rstrip() + "..."
