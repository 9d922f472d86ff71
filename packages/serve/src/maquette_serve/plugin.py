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
    register(
        "texture",
        "Paint a mesh: maquette texture RUN --mesh FILE --prompt TEXT --out FILE",
        "maquette_serve.texture_command:texture",
    )
    register(
        "retexture",
        "Paint a mesh anew, shape and UVs kept: maquette retexture RUN --mesh FILE --prompt TEXT --out FILE",
        "maquette_serve.retexture_command:retexture",
    )
    register(
        "animate",
        "Give a rigged mesh clips: maquette animate FILE --clip walk --out FILE",
        "maquette_serve.animate_command:animate",
    )
    register(
        "convert",
        "Mesh files into other formats: maquette convert IN OUT [key=value ...]",
        "maquette_serve.convert_command:convert",
    )
    register(
        "parts",
        "Cut a mesh into named parts: maquette parts RUN --mesh FILE --out FILE",
        "maquette_serve.parts_command:parts",
    )
    register(
        "texture-edit",
        'Change a texture in a region: maquette texture-edit --mesh FILE --instruction "make the seat red" --out FILE',
        "maquette_serve.texture_edit_command:texture_edit",
    )
    register(
        "rig",
        "Give a mesh a skeleton: maquette rig RUN --mesh FILE --out FILE",
        "maquette_serve.rig_command:rig",
    )
    register(
        "finish",
        "Finish a mesh step by step: maquette finish FILE --step repair --step decimate:share=.1 --out FILE",
        "maquette_serve.finish_command:finish",
    )
    register(
        "remesh",
        "Give a mesh new faces: maquette remesh FILE --faces N --topology quad --out FILE",
        "maquette_serve.remesh_command:remesh",
    )
    register(
        "unwrap",
        "Give a mesh texture coordinates: maquette unwrap FILE --out FILE",
        "maquette_serve.unwrap_command:unwrap",
    )
    register(
        "print-check",
        "Check a mesh for 3D printing: maquette print-check FILE [--repair OUT]",
        "maquette_serve.print_check_command:print_check",
    )
    register("serve", "Serve trained runs by HTTP: maquette serve RUN [RUN ...]", "maquette_serve.serve_command:serve")
    register("keys", "Make, list and revoke API keys of a service", "maquette_serve.serve_command:keys")
    register(
        "remote",
        "Use a service: maquette remote make PIPELINE --prompt TEXT --out FILE",
        "maquette_serve.remote_command:remote",
    )
