"""Drawings as text, so that a report is one file; the same curves are the same file."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

STYLE: Any = {
    "svg.hashsalt": "maquette",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
}


def draw(paint: Callable[[Figure], None], size: tuple[float, float]) -> str:
    """An inline SVG.

    Args:
        paint: draws on the figure.
        size: inches.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context(STYLE):
        figure = Figure(figsize=size, layout="constrained")
        paint(figure)
        text = io.StringIO()
        figure.savefig(text, format="svg", metadata={"Date": None})
    return text.getvalue()[text.getvalue().index("<svg") :]
