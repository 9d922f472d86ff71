"""Coverage-guided fuzzing of the loaders.

`python -m tests.security.atheris_child FOLDER -atheris_runs=20000 -seed=1`
"""

import sys
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["maquette", "maquette_data3d", "trimesh.exchange"]):
    # The parsers are loaded when a file of theirs comes, which would be too late.
    from maquette_data3d.ingest import archive, fbx, obj, plain, threemf  # noqa: F401
    from maquette_data3d.ingest.gltf import reader  # noqa: F401
    from tests.security import loaders

from maquette.errors import MaquetteError

FOLDER = Path(sys.argv.pop(1))
GOOD = loaders.good_files(FOLDER)
KINDS = [(kind, suffix) for kind, suffix, _ in GOOD]


def one_input(data: bytes) -> None:
    """The first byte chooses the loader, the rest is the file."""
    if data:
        kind, suffix = KINDS[data[0] % len(KINDS)]
        try:
            loaders.load_one(kind, suffix, data[1:], FOLDER)
        except MaquetteError:
            return


loaders.fork_fbx_child()
corpus = FOLDER / "corpus"
corpus.mkdir()
for number, (_, _, content) in enumerate(GOOD):
    (corpus / str(number)).write_bytes(bytes([number]) + content)
atheris.Setup([*sys.argv, "-max_len=8192", str(corpus)], one_input)
atheris.Fuzz()
