"""The ``maquette`` command: a group whose subcommands come from plugins and load only when they are called."""

from __future__ import annotations

import sys
from typing import Any

import click

from maquette import __version__, plugins
from maquette.errors import MaquetteError
from maquette.registry import resolve
from maquette.secrets import scrubbed


class PluginGroup(click.Group):
    """Lists and runs what ``register_commands`` hooks give."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All names."""
        return [entry.name for entry in plugins.registry("commands")]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the one command that is called."""
        entry = plugins.lookup("commands", cmd_name)
        command = resolve(entry.build_reference, entry.plugin)
        if not isinstance(command, click.Command):
            raise MaquetteError(f"plugin '{entry.plugin}' registers command '{cmd_name}', which is not a click command")
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Help from the registrations, importing no command."""
        rows = [(entry.name, str(entry.config_reference)) for entry in plugins.registry("commands")]
        with formatter.section("Commands"):
            formatter.write_dl(rows)


def _load(context: click.Context, parameter: click.Parameter, files: tuple[str, ...]) -> tuple[str, ...]:
    # While the words are parsed: the command that follows may be one of theirs.
    plugins.load_files(files)
    return files


@click.group(cls=PluginGroup)
@click.version_option(__version__, prog_name="maquette")
@click.option(
    "--plugin", "files", multiple=True, metavar="FILE.py", callback=_load, help="Load a loose-file plugin; repeatable."
)
def cli(files: tuple[str, ...]) -> None:
    """From raw meshes to a served 3D generator; every part is a plugin."""


def run(function: Any, *args: Any, **kwargs: Any) -> int:
    """Call and turn a user's mistake into one line and an exit status, never a traceback."""
    try:
        function(*args, **kwargs)
    except MaquetteError as error:
        click.echo(scrubbed(f"maquette: {error}"), err=True)
        return getattr(error, "exit_code", 1)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (KeyboardInterrupt, click.Abort):
        click.echo("maquette: interrupted; nothing is running any more", err=True)
        return 130
    return 0


def main() -> None:
    """The console script."""
    sys.exit(run(cli, standalone_mode=False))


if __name__ == "__main__":
    main()
