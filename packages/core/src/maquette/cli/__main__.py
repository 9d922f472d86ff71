"""``python -m maquette.cli``, as launchers call it."""

from maquette.cli import main

main()
