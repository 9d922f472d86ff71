"""The web page: plain files, of which nothing comes from elsewhere."""

from __future__ import annotations

from pathlib import Path

FOLDER = Path(__file__).parent
# The viewer's loaders make workers of their own text and compile what they bring along.
POLICY = "; ".join(
    (
        "default-src 'self'",
        "script-src 'self' 'wasm-unsafe-eval' blob:",
        "style-src 'self' 'unsafe-inline'",
        "img-src 'self' blob: data:",
        "connect-src 'self' blob: data:",
        "worker-src 'self' blob:",
        "object-src 'none'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    )
)
