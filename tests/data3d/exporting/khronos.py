"""The Khronos glTF validator, run by node where both are there.

    npm install --prefix ~/.cache/maquette-validator gltf-validator

makes it there; MAQUETTE_GLTF_VALIDATOR names another folder that holds node_modules.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

SCRIPT = """
const validator = require(process.argv[1]), fs = require('fs');
(async () => {
  for (const file of fs.readFileSync(0, 'utf8').split('\\n')) {
    const report = await validator.validateBytes(new Uint8Array(fs.readFileSync(file)), {maxIssues: 0});
    const wrong = report.issues.messages.filter((issue) => issue.severity === 0);
    console.log(JSON.stringify({
      file, errors: report.issues.numErrors, warnings: report.issues.numWarnings,
      codes: report.issues.messages.filter((issue) => issue.severity < 2).map((issue) => issue.code),
      wrong: wrong.slice(0, 5).map((issue) => `${issue.pointer}: ${issue.message}`)}));
  }
})();
"""


def missing():
    """Why it cannot run, "" where it can."""
    if shutil.which("node") is None:
        return "node is not installed"
    if not _package().is_dir():
        return f"no gltf-validator; npm install --prefix {_folder()} gltf-validator"
    return ""


def reports(paths):
    """A dictionary a file: errors, warnings, the codes of both, and the first errors in words."""
    command = ["node", "-e", SCRIPT, str(_package())]
    told = subprocess.run(command, input="\n".join(map(str, paths)), capture_output=True, text=True, check=True)
    return [json.loads(line) for line in told.stdout.splitlines()]


def _folder():
    return Path(os.environ.get("MAQUETTE_GLTF_VALIDATOR") or Path.home() / ".cache" / "maquette-validator")


def _package():
    return _folder() / "node_modules" / "gltf-validator"
