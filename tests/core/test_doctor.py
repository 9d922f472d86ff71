"""`maquette doctor`: what decides, the command with its JSON and exit status, the gate before a training."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import pytest
from click.testing import CliRunner

from maquette import cli as command_line
from maquette import plugins
from maquette.cli.doctor import doctor as command
from maquette.cli.worker import work
from maquette.config import load_run_config
from maquette.doctor import gate
from maquette.doctor.checkpoint_size import newest_checkpoint_bytes, planned_checkpoint_bytes
from maquette.doctor.examination import Report, build_checks, examine
from maquette.doctor.finding import Finding, Status, judge, worst
from maquette.errors import MaquetteError, Outcome
from maquette.launching.failure import Failure
from maquette.launching.outcome import OUTCOME
from maquette.parallel.layout import Layout
from maquette.parallel.mesh import Mesh
from maquette.runner import train
from tests.core.fake_machines import machine

TOY = Path(__file__).with_name("toy_plugin.py")
BLOCKS = ["data.name=toy", "model.name=toy", "model.width=${facts:width}", "objective.name=toy"]


def test_the_worst_finding_decides_and_what_is_unknown_outweighs_what_is_fine():
    def report(*statuses):
        return Report([Finding("x", status) for status in statuses])

    assert report(Status.PASS, Status.NOT_APPLICABLE).exit_status == 0
    assert report(Status.PASS, Status.UNKNOWN).exit_status == 3
    assert report(Status.UNKNOWN, Status.WARN).exit_status == 1
    assert report(Status.UNKNOWN, Status.WARN, Status.CRITICAL).exit_status == 2
    assert worst([]) is Status.PASS
    assert judge("x", 5, warn=5).status is Status.WARN and judge("x", 5, warn=5, at_least=True).status is Status.PASS


def call(*words):
    """(exit status, standard output, standard error) of the command in this process."""
    runner = CliRunner()
    try:
        result = runner.invoke(command, list(words), standalone_mode=False)
        raised = result.exception
    except MaquetteError as error:  # older click lets it through
        raised, result = error, None
    status = getattr(raised, "exit_code", 0) if isinstance(raised, Outcome) else (1 if raised else 0)
    return status, result.output if result else "", raised


def test_the_json_has_its_keys_and_the_file_the_same(tmp_path):
    output = tmp_path / "report.json"
    status, text, _ = call("--quick", "--only", "limits", "--json", "--output", str(output))
    report = json.loads(text)
    assert report == json.loads(output.read_text())
    assert set(report) == {"schema", "status", "exit_status", "processes", "machines", "seconds", "findings"}
    assert (report["schema"], report["exit_status"], report["processes"]) == (1, status, 1)
    keys = {"id", "status", "subject", "machine", "value", "unit", "threshold", "evidence", "action"}
    assert all(set(finding) == keys for finding in report["findings"])
    assert Report.read(report).plain() == report


def test_the_exit_status_tells_the_worst(tmp_path):
    assert call("--quick", "--only", "limits", "limits.open_files=1", "limits.processes=1")[0] == 0
    status, text, error = call("--quick", "--only", "limits", f"limits.open_files={2**40}")
    assert status == 1 and "WARN  limits.open_files" in text and "limits.open_files" in str(error)
    assert call("--quick", "--only", "disk", "disk.full_percent=0.001")[0] == 2


def test_wrong_words_are_one_line():
    for words, said in (
        (["--only", "disc"], "did you mean 'disk'"),
        (["disk.full=1"], "full_percent"),
        (["disk=1"], "CHECK.key=value"),
        (["nowhere.yaml"], "does not exist"),
        (["--nproc", "0"], "at least 1"),
        (["--quick", "--only", "limits", "--output", "/proc/cpuinfo/a"], "cannot be written: File exists"),
    ):
        assert said in str(call(*words)[2])


def test_a_launched_doctor_is_not_started_again(monkeypatch):
    monkeypatch.delenv("TORCHELASTIC_ERROR_FILE", raising=False)
    status = work(["doctor", "--quick", "--only", "disk", "disk.full_percent=0.001"])
    failure = Failure(0, 1, status, 0.0)
    assert status == OUTCOME + 2 and failure.outcome == 2 and failure.final


def test_two_processes_of_its_own(tmp_path, capfd, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    words = ["doctor", "--nproc", "2", "--quick", "--json", "disk.full_percent=0.001"]
    only = [word for name in ("disk", "collectives", "matmul", "skew") for word in ("--only", name)]
    status = command_line.run(command_line.cli, [*words, *only], standalone_mode=False)
    out, error = capfd.readouterr()
    report = json.loads(out)
    assert status == 2 and report["processes"] == 2 and "CRITICAL disk.space" in error
    fine = {f["id"] for f in report["findings"] if f["status"] == "PASS"}
    assert {"collective.content", "matmul.float32", "matmul.bfloat16", "clock.skew"} <= fine
    assert not list(tmp_path.glob("maquette_*"))


def test_a_plugins_check_counts_and_a_broken_one_is_unknown(tmp_path):
    class Sick:
        together = False

        def __init__(self, config):
            pass

        def __call__(self, machine):
            raise RuntimeError("no thermometer")

    checks = {"sick": Sick(None), **build_checks({}, ["limits"])}
    report = examine(machine(tmp_path), checks)
    (finding,) = report.of(Status.UNKNOWN)
    assert finding.id == "sick.check" and "no thermometer" in finding.evidence and report.exit_status == 3


def test_the_gate_says_or_refuses(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(
        gate, "build_checks", lambda settings: build_checks({"disk": {"full_percent": 0.001}}, ["disk"])
    )
    mesh = Mesh(Layout())
    gate.pass_gate("off", mesh, tmp_path)
    assert capsys.readouterr().err == ""
    gate.pass_gate("warn", mesh, tmp_path)
    assert "warning: doctor: CRITICAL disk.space" in capsys.readouterr().err
    with pytest.raises(MaquetteError, match=r"doctor=require: CRITICAL disk\.space .*action: free_space"):
        gate.pass_gate("require", mesh, tmp_path)


def test_every_check_has_an_identity_of_its_own():
    names = [entry.name for entry in plugins.registry("checks")]
    assert len(names) == len(set(names)) >= 12


def toy_run(folder, *words):
    run = [f"plugins=[{TOY}]", *BLOCKS, "strategy.name=ddp", "loggers=[]", "train.steps=1", f"folder={folder}"]
    return load_run_config(None, [*run, *words])


@pytest.mark.parametrize("word", ["off", "warn", "require"])
def test_a_run_starts_behind_the_gate_that_it_asks_for(word, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(gate, "build_checks", lambda settings: asked.append(settings) or {})
    train(toy_run(tmp_path / "run", f"doctor={word}"))
    assert len(asked) == (word != "off")


def test_a_run_that_is_refused_leaves_nothing_behind(tmp_path, monkeypatch):
    monkeypatch.setattr(
        gate, "build_checks", lambda settings: build_checks({"disk": {"full_percent": 0.001}}, ["disk"])
    )
    with pytest.raises(MaquetteError, match=r"disk\.space"):
        train(toy_run(tmp_path / "run", "doctor=require"))
    assert not (tmp_path / "run").exists()
    with pytest.raises(MaquetteError, match="'doctor' is 'maybe'; known: off, warn, require"):
        train(toy_run(tmp_path / "run", "doctor=maybe"))


def test_the_size_of_a_checkpoint_is_known_before_there_is_one(tmp_path):
    node = toy_run(tmp_path / "run", "doctor=off")
    planned = planned_checkpoint_bytes(node)
    real = newest_checkpoint_bytes(train(toy_run(tmp_path / "run", "doctor=off")).path)
    files = 64 * 2**10  # manifests, indices and headers, which a model of any size outweighs
    assert planned <= real <= planned + files and newest_checkpoint_bytes(tmp_path) is None
