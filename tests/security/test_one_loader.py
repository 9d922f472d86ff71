"""Files of strangers go through one loader each: nothing else opens images, archives, pickles, YAML or meshes."""

import ast
import re
from pathlib import Path

import pytest

PACKAGES = Path(__file__).parents[2] / "packages"
# Call -> the files that may make it.
LOADERS = {
    "Image.open": {"maquette/image_loading.py"},
    "imageio.imread": set(),
    "imread": set(),
    "torch.load": set(),
    "pickle.load": set(),
    "pickle.loads": {"maquette/testing/child_answers.py"},  # of its own children, over a pipe that they inherit
    "joblib.load": set(),
    "dill.loads": set(),
    "marshal.loads": set(),
    "tarfile.open": set(),
    "shutil.unpack_archive": set(),
    "yaml.load": set(),
    "yaml.unsafe_load": set(),
    "yaml.full_load": set(),
    "OmegaConf.load": set(),
    "trimesh.load": set(),
    "trimesh.load_mesh": set(),
    "trimesh.load_scene": {"maquette_data3d/ingest/plain.py"},
    "ufbx.load_memory": {"maquette_data3d/ingest/fbx_child.py"},
    "ufbx.load_file": set(),
    "ElementTree.parse": set(),
    "ElementTree.fromstring": set(),
    "dcp.load": set(),
    "eval": set(),
    "exec": set(),
}


def named(call: ast.Call) -> str:
    """The last two parts of what is called, as it is written."""
    parts = []
    node = call.func
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    parts.append(node.id if isinstance(node, ast.Name) else "?")
    return ".".join(reversed(parts[:2]))


def word(call: ast.Call, key: str, place: int) -> object:
    """An argument that is a constant, by name or place."""
    for given in call.keywords:
        if given.arg == key:
            return getattr(given.value, "value", "?")
    return getattr(call.args[place], "value", "?") if len(call.args) > place else None


# Most files have none of these words, and need no parsing.
WORTH_PARSING = re.compile(
    "|".join(
        {re.escape(name.rpartition(".")[2]) + r"\(" for name in LOADERS} | {"ZipFile", "np.load", "from_pretrained"}
    )
)


def wrong_calls(source: str, file: str) -> list[str]:
    found = []
    if not WORTH_PARSING.search(source):
        return found
    for call in [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]:
        name = named(call)
        last = name.rpartition(".")[2]
        allowed = LOADERS.get(name, LOADERS.get(last) if name == last else None)
        if name == "tarfile.open" and str(word(call, "mode", 1)).startswith("w"):
            continue
        reads_zip = (
            name == "zipfile.ZipFile" and word(call, "mode", 1) != "w" and not file.endswith("ingest/archive.py")
        )
        pickled = name in ("np.load", "numpy.load") and word(call, "allow_pickle", 2) is not False
        unsafe = last == "from_pretrained" and word(call, "trust_remote_code", 99) is not False
        weights = last == "from_pretrained" and name != "AutoTokenizer.from_pretrained"
        pickles = weights and word(call, "use_safetensors", 99) is not True
        if (allowed is not None and file not in allowed) or reads_zip or pickled or unsafe or pickles:
            found.append(f"{file}:{call.lineno}: {name}")
    return found


def test_strangers_files_have_one_loader_each():
    wrong = []
    for path in sorted(PACKAGES.glob("*/src/**/*.py")):
        file = path.relative_to(PACKAGES).as_posix().partition("/src/")[2]
        wrong += wrong_calls(path.read_text(), file)
    assert not wrong, wrong


@pytest.mark.parametrize(
    "line",
    [
        "Image.open(path)",
        "PIL.Image.open(path)",
        "torch.load(path, weights_only=True)",
        "zipfile.ZipFile(path)",
        "zipfile.ZipFile(path, 'r')",
        "np.load(path)",
        "np.load(path, allow_pickle=True)",
        "yaml.load(text, Loader=Loader)",
        "trimesh.load(path)",
        "Model.from_pretrained(path, use_safetensors=True)",
        "Model.from_pretrained(path, trust_remote_code=False)",
        "eval(text)",
    ],
)
def test_the_walk_sees_what_it_should(line):
    assert wrong_calls(line, "maquette/anywhere.py")


@pytest.mark.parametrize("line", ["zipfile.ZipFile(path, 'w')", "np.load(path, allow_pickle=False)", "model.eval()"])
def test_the_walk_lets_the_harmless_pass(line):
    assert not wrong_calls(line, "maquette/anywhere.py")
