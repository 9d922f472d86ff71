"""What a trained rig is worth: joints, weights and posed surfaces beside mean skeletons and geodesic weights.

    python benchmarks/models_rigging.py creatures RUN SHARDS... [COUNT]   new procedural creatures (120)
    python benchmarks/models_rigging.py real RUN SHARDS... MODELS         real characters of packs that SHARDS hold out
    python benchmarks/models_rigging.py things RUN SHARDS... MODELS [N]   rigs for procedural objects and real things
    python benchmarks/models_rigging.py all RUN MODELS                    every model: a valid rig or a clear refusal

RUN holds the runs `skin` and `skeleton`; the SHARDS are those it was trained on, their training shapes make the mean
skeletons. MODELS is a folder with manifest.jsonl. Creatures are of a seed that no shards are built from.
"""

from __future__ import annotations

import json
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch

from maquette.assets import import_asset, open_pipeline
from maquette.errors import MaquetteError
from maquette.report import Figure
from maquette.types import Asset, Mesh, Request
from maquette_data3d import sample_shape
from maquette_data3d.joint_roles import role_of
from maquette_models.rigging.evaluation import KnownRig, RigErrors, rig_errors, rig_figures, share_found
from maquette_models.rigging.file_rigs import FileRig, body_of
from maquette_models.rigging.rig import Rig
from maquette_models.rigging.rigged_shapes import read_rigged
from maquette_models.rigging.skeleton_tree import ROOT
from maquette_models.rigging.template_fit import templates_of

SEED = 1000
RESOLUTION = 64
THINGS = ("furniture", "vehicles", "vessels", "buildings", "tools", "stones")


def creatures(run: str, *rest: str) -> None:
    """Figures over all creatures, then joint-to-joint distances by class."""
    shards, count = (rest[:-1], int(rest[-1])) if rest[-1].isdigit() else (rest, 120)
    rig = opened(run)
    templates = templates_of(shape for shape in read_rigged(shards, "train", rig.roles))
    found: dict[str, list[RigErrors]] = defaultdict(list)
    for index in range(count):
        shape = sample_shape(SEED, index, classes=("creatures",))
        mesh = shape.mesh(RESOLUTION)
        names, parents, positions = shape.skeleton()
        joints, weights = shape.skin(mesh.vertices)
        known = known_rig(rig, f"{shape.class_name}/{index}", mesh, (names, parents, positions), (joints, weights))
        found[shape.class_name].append(rig_errors(rig, known, templates))
    report([one for group in found.values() for one in group])
    for name, group in found.items():
        say(f"{name:12} n {len(group):3}  " + by_name(group))


def real(run: str, *rest: str) -> None:
    """Figures over characters of packs that no training shape is from, then each of them."""
    *shards, models = rest
    rig = opened(run)
    templates = templates_of(shape for shape in read_rigged(shards, "train", rig.roles))
    held_out = {shape.id for shape in read_rigged(shards, "val", rig.roles)}
    found = []
    for row, path in listed(models):
        if row["joints"] and row["file"] in held_out:
            mesh = import_asset(path).mesh
            skin = mesh.skin
            bones = skin.skeleton.names, skin.skeleton.parents, skin.skeleton.rest[:, :3, 3]
            known = known_rig(rig, row["file"], mesh, bones, (skin.joints, skin.weights))
            if len(known.tree) > 1:
                found.append(rig_errors(rig, known, templates))
    report(found)
    for one in found:
        say(f"{one.name:60} found {one.found:d}  " + by_name([one]))


def things(run: str, *rest: str) -> None:
    """How often a rig is found for what has none, and was not shown in training."""
    *shards, models, count = rest if rest[-1].isdigit() else (*rest, "100")
    rig = opened(run)
    shapes = (sample_shape(SEED, index, classes=THINGS).mesh(RESOLUTION) for index in range(int(count)))
    say("procedural objects  " + line_of(share_found(rig, shapes)))
    shown = {shape.id for shape in read_rigged(shards, "train", rig.roles)}
    rows = [path for row, path in listed(models) if is_thing(row) and row["file"] not in shown]
    chosen = np.random.default_rng(SEED).permutation(len(rows))[: int(count)]
    say("real things         " + line_of(share_found(rig, (import_asset(rows[i]).mesh for i in chosen))))


def is_thing(row: dict) -> bool:
    """Whether a row of the manifest is of something without joints that is no character."""
    return not row["joints"] and row["category"] != "character"


def every(run: str, models: str) -> None:
    """Counts of what became of every model, by what the manifest says of its joints."""
    pipeline = open_pipeline(run)
    found: Counter[tuple[str, str]] = Counter()
    for row, path in listed(models):
        try:
            outcome = check(pipeline(Request(mesh=import_asset(path).mesh)))
        except MaquetteError as error:
            outcome = str(error).partition(":")[0]
        found["rigged" if row["joints"] else "thing" if is_thing(row) else "part of a character", outcome] += 1
    for (what, outcome), count in sorted(found.items()):
        say(f"{what:20} {outcome:30} {count}")


def check(asset: Asset) -> str:
    """ "valid", or what is wrong with a rig."""
    skin = asset.mesh.skin
    parents = skin.skeleton.parents
    if (parents == ROOT).sum() != 1 or (parents >= np.arange(len(parents))).any():
        return "no tree"
    if not np.allclose(skin.weights.sum(axis=1), 1, atol=1e-5) or skin.weights.shape[1] > 4:
        return "weights that are not valid"
    return "valid"


def known_rig(rig: Rig, name: str, mesh: Mesh, bones: tuple, skin: tuple) -> KnownRig:
    """A mesh with the rig that it has, brought to what a body is made of."""
    names, parents, positions = bones
    roles = np.array([rig.roles.index(role_of(joint)) for joint in names], np.int64)
    own = FileRig(roles, parents.astype(np.int64), positions.astype(np.float64), skin[0].astype(np.int64), skin[1])
    tree, weights = body_of(own, rig.roles)
    return KnownRig(name, mesh, tree, weights)


def opened(run: str) -> Rig:
    """The pipeline of a run."""
    torch.set_num_threads(1)
    pipeline = open_pipeline(run)
    assert isinstance(pipeline, Rig)
    return pipeline


def listed(models: str) -> Iterator[tuple[dict, Path]]:
    """Rows of a manifest and the files."""
    for line in (Path(models) / "manifest.jsonl").read_text().splitlines():
        row = json.loads(line)
        yield row, Path(models) / row["file"]


def report(found: Sequence[RigErrors]) -> None:
    """A line a figure."""
    for name, figure in rig_figures(found).items():
        say(f"{name:28} {line_of(figure)}")


def line_of(figure: Figure) -> str:
    """Value, interval, n, and what it is to be read beside."""
    low, high = figure.interval
    beside = "".join(f"  {key} {value:.4f}" for key, value in figure.beside.items())
    return f"{figure.value:.4f} [{low:.4f}, {high:.4f}]  n {figure.n}{beside}"


def by_name(group: Sequence[RigErrors]) -> str:
    """Means of a group on one line, those without training in brackets."""
    names = ("joints", "weights", "posed", "posed_all")
    return "  ".join(
        f"{name} {np.mean([getattr(one, name) for one in group]):.4f}"
        f" ({np.mean([one.by_template[name] for one in group]):.4f})"
        for name in names
    )


def say(line: str) -> None:
    """Print at once."""
    print(line, flush=True)


if __name__ == "__main__":
    tasks = {"creatures": creatures, "real": real, "things": things, "all": every}
    if len(sys.argv) < 4 or sys.argv[1] not in tasks:
        sys.exit(__doc__)
    tasks[sys.argv[1]](*sys.argv[2:])
