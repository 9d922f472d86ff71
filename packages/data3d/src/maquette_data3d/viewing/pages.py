"""What every page is made of: its files, and a policy that lets nothing in from outside."""

from __future__ import annotations

import base64
import hashlib
from importlib import resources

from markupsafe import Markup


def asset(name: str) -> str:
    """The text of a file that is shipped with the pages."""
    return (resources.files("maquette_data3d.viewing") / "assets" / name).read_text(encoding="utf-8")


def policy(scripts: list[str], styles: list[str], *, connect: str = "'none'") -> str:
    """A Content-Security-Policy under which only these inline scripts and styles run, and images are inline.

    Args:
        scripts, styles: the exact text between the tags; connect: whom the page may ask for more.
    """
    script = " ".join(_digest(text) for text in scripts)
    style = " ".join(_digest(text) for text in styles)
    return (
        f"default-src 'none'; script-src {script}; style-src {style}; img-src data: blob:; "
        f"connect-src {connect}; base-uri 'none'; form-action 'none'"
    )


def _digest(text: str) -> str:
    return "'sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() + "'"


def inline(text: str) -> Markup:
    """Text of our own files, not to be escaped; it must not end the tag that holds it."""
    if "</script" in text.lower() or "</style" in text.lower() or "<!--" in text:
        raise ValueError("an inline file would end its own tag")
    return Markup(text)


def picture_data(content: bytes) -> str:
    """A WebP, PNG or JPEG file as a data URI; anything else is no picture and gives an empty string."""
    kinds = ((b"RIFF", "webp"), (b"\x89PNG", "png"), (b"\xff\xd8\xff", "jpeg"))
    for start, kind in kinds:
        if content.startswith(start):
            return f"data:image/{kind};base64," + base64.b64encode(content).decode()
    return ""


def number_text(value: object) -> str:
    """Numbers for people: thousands apart, floats with four digits; other things as they are."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    if isinstance(value, int):
        return f"{value:,}".replace(",", "\u2009")
    return f"{value:.4g}" if abs(value) < 1000 else f"{value:,.0f}".replace(",", "\u2009")
