"""A run with adapters folded in: a generator of its own that needs neither its base nor the adapters."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from maquette import checkpoint
from maquette.errors import MaquetteError
from maquette.runs import RunFolder, load_run
from maquette_models.adapters.adapter_file import read_adapter
from maquette_models.adapters.hot_swap import merge, parse_reference
from maquette_models.adapters.vocabulary import takes_words
from maquette_models.latents.latent_cache import weights_hash


def merge_into_run(run: str | Path, references: Sequence[str], out: str | Path) -> Path:
    """Write the run `out`: a base run with adapters ("FILE" or "FILE:scale") merged into its averaged weights.

    Raises:
        MaquetteError: an adapter of another base, or `out` is there already.
    """
    target = RunFolder(Path(out))
    if target.path.exists():
        raise MaquetteError(f"'{target.path}' exists already; give another folder")
    base = load_run(run)
    stack = [(read_adapter(path), scale) for path, scale in map(parse_reference, references)]
    sha256 = weights_hash(base.model)
    for adapter, _ in stack:
        adapter.check_base(sha256, str(run))
    merge(base.model, stack)
    config = base.config
    config.name, config.folder, config.resume, config.start_from = target.path.name, str(target.path), None, None
    if takes_words(base.model.conditioner):
        known = base.model.conditioner.config
        config.model.conditioner.classes = config.facts.classes = list(known.classes)
        config.model.conditioner.vocabulary = config.facts.vocabulary = list(known.vocabulary)
    target.path.mkdir(parents=True)
    target.write_config(config)
    with checkpoint.Saver(target.checkpoints, keep=1, background=False) as saver:
        saver.save(base.step, {"model": base.model.state_dict()}, {"merged": list(references)})
    return target.path
