"""Options that several commands have."""

from __future__ import annotations

import click

GUIDANCE = click.option(
    "--guidance", type=float, default=None, help="How strictly to follow the prompt; default: the run's."
)
STEPS = click.option("--steps", type=click.IntRange(1), default=None, help="Sampling steps; default: the run's.")
ADAPTERS = click.option(
    "--adapter", "adapters", multiple=True, metavar="FILE[:SCALE]", help="A file or run of an adapter; repeatable."
)
