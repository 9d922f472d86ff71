"""What this package registers."""

from __future__ import annotations

from maquette import hookimpl
from maquette.hookspecs import Register

HERE = "maquette_serve.commands"
COMMANDS = {
    "sample": ("Generate a mesh: maquette sample RUN --prompt TEXT --out FILE", "sample:sample"),
    "edit": ("Change a mesh: maquette edit RUN --mesh FILE --prompt TEXT --region WORDS --out FILE", "edit:edit"),
    "texture": ("Paint a mesh: maquette texture RUN --mesh FILE --prompt TEXT --out FILE", "texture:texture"),
    "retexture": (
        "Paint a mesh anew, shape and UVs kept: maquette retexture RUN --mesh FILE --prompt TEXT --out FILE",
        "retexture:retexture",
    ),
    "animate": ("Give a rigged mesh clips: maquette animate FILE --clip walk --out FILE", "animate:animate"),
    "convert": ("Mesh files into other formats: maquette convert IN OUT [key=value ...]", "convert:convert"),
    "parts": ("Cut a mesh into named parts: maquette parts RUN --mesh FILE --out FILE", "parts:parts"),
    "texture-edit": (
        'Change a texture in a region: maquette texture-edit --mesh FILE --instruction "make the seat red" --out FILE',
        "texture_edit:texture_edit",
    ),
    "rig": ("Give a mesh a skeleton: maquette rig RUN --mesh FILE --out FILE", "rig:rig"),
    "finish": (
        "Finish a mesh step by step: maquette finish FILE --step repair --step decimate:share=.1 --out FILE",
        "finish:finish",
    ),
    "remesh": ("Give a mesh new faces: maquette remesh FILE --faces N --topology quad --out FILE", "remesh:remesh"),
    "unwrap": ("Give a mesh texture coordinates: maquette unwrap FILE --out FILE", "unwrap:unwrap"),
    "print-check": (
        "Check a mesh for 3D printing: maquette print-check FILE [--repair OUT]",
        "print_check:print_check",
    ),
    "serve": ("Serve trained runs by HTTP: maquette serve RUN [RUN ...]", "serve:serve"),
    "keys": ("Make, list and revoke API keys of a service", "serve:keys"),
    "remote": ("Use a service: maquette remote make PIPELINE --prompt TEXT --out FILE", "remote:remote"),
}


@hookimpl
def register_commands(register: Register) -> None:
    """Generating, finishing and serving from the command line."""
    for name, (help_line, target) in COMMANDS.items():
        register(name, help_line, f"{HERE}.{target}")
