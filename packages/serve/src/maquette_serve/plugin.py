"""What this package registers."""

from __future__ import annotations

from maquette import hookimpl
from maquette.hookspecs import Register


@hookimpl
def register_commands(register: Register) -> None:
    """Generating from the command line."""
    register(
        "sample",
        "Generate a mesh: maquette sample RUN --prompt TEXT --out FILE",
        "maquette_serve.sample_command:sample",
    )
    register(
        "edit",
        "Change a mesh: maquette edit RUN --mesh FILE --prompt TEXT --region WORDS --out FILE",
        "maquette_serve.edit_command:edit",
    )
