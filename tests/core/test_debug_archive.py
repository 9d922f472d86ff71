"""`maquette debug`: what helps is in the archive; secrets, weights and files of strangers are nowhere in it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maquette.cli import cli, run
from maquette.errors import MaquetteError
from maquette.forensics import archive
from maquette.forensics.archive import anonymous, collect

HOME = "/" + "home"  # in two pieces: no file of the repository names a home

PLANTED = {
    "aws": "AKIAIOSFODNN7EXAMPLE",
    "github": "ghp_abcdefghijklmnopqrstuvwxyz0123456789",
    "hub": "hf_abcdefghijklmnopqrstuvwxyzABCDEFGH",
    "service": "sk-proj-abcdefghijklmnopqrstuvwx",
    "jwt": "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N",
    "url": "s3://KEYID:s3cretPart@bucket/data",
    "database": "postgresql://user:pa55word@host:5432/db",
    "named": "password=correcthorsebattery",
    "header": "Authorization: Bearer abcdef0123456789abcdef",
    "option": "--api-key 0123456789abcdefghij",
}
"""A line that holds each; what of it must be gone is in SECRETS."""

SECRETS = [
    *(PLANTED[name] for name in ("aws", "github", "hub", "service", "jwt")),
    "s3cretPart",
    "pa55word",
    "correcthorsebattery",
    "abcdef0123456789abcdef",
    "0123456789abcdefghij",
    "only-by-its-key",
    "in-a-block-of-text",
    "value-of-the-environment",
    "zaphod",
]

EVERYWHERE = (
    "logs/ranks/a/attempt_0/0/stderr.log",
    "logs/ranks/a/attempt_0/0/traceback.log",
    "logs/csv/version_0/metrics.csv",
    "incidents/20261201-000000_hang/summary.txt",
    "incidents/20261201-000000_hang/stacks.rank0.txt",
)


@pytest.fixture
def broken_run(tmp_path, monkeypatch):
    """A run's folder with secrets of many shapes in all of its files, and in this process's environment."""
    monkeypatch.setenv("MY_SERVICE_TOKEN", "value-of-the-environment")
    monkeypatch.setenv("NCCL_DEBUG", "INFO")
    folder = tmp_path / "run"
    lines = [*PLANTED.values(), f"{HOME}/zaphod/data", "value-of-the-environment", "what helps"]
    for name in EVERYWHERE:
        write(folder / name, "\n".join(lines) + "\n")
    facts = {"helps": "what helps", "api_key": "only-by-its-key", "lines": lines, "deep": [{"auth_token": SECRETS[0]}]}
    for name in (
        "environment.json",
        "result.json",
        "incidents/20261201-000000_hang/incident.json",
        "checkpoints/step_00000010/manifest.json",
        "logs/ranks/a/attempt_0/0/error.json",
    ):
        write(folder / name, json.dumps(facts))
    journal = json.dumps(facts) + "\n" + json.dumps(facts)[:-40] + "\n"  # the last line is torn
    write(folder / "monitor" / "rank_00000.jsonl", journal)
    write(folder / "events" / "rank_00000.jsonl", journal)
    config = "data:\n  source: s3://KEYID:s3cretPart@bucket/data\n  password: only-by-its-key\n"
    config += "  token: |\n    in-a-block-of-text\n  helps: what helps\n"
    write(folder / "config.yaml", config)
    write(folder / "checkpoints" / "step_00000010" / "model.safetensors", "weights " * 100)
    write(folder / "notes.txt", "a stranger's file")
    write(tmp_path / "outside.log", "a stranger's file")
    (folder / "logs" / "ranks" / "a" / "outside.log").symlink_to(tmp_path / "outside.log")
    return folder


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def contents(archive):
    with tarfile.open(archive) as found:
        return {member.name: found.extractfile(member).read().decode() for member in found.getmembers()}


def test_planted_secrets_of_many_shapes_are_in_no_file_of_the_archive(broken_run, tmp_path):
    collect(broken_run, tmp_path / "a.tar.gz", doctor=False)
    found = contents(tmp_path / "a.tar.gz")
    leaks = [(name, secret) for name, text in found.items() for secret in SECRETS if secret in text]
    assert not leaks
    # And yet all files are there, with what helps.
    expected = {*EVERYWHERE, "config.yaml", "monitor/rank_00000.jsonl", "checkpoints/step_00000010/manifest.json"}
    assert expected <= {name.partition("/")[2] for name in found}
    helpful = [name for name in expected if "what helps" in found[f"run/{name}"]]
    assert len(helpful) == len(expected)


def test_no_weights_no_links_no_unknown_files_and_only_listed_variables(broken_run, tmp_path):
    collect(broken_run, tmp_path / "a.tar.gz", doctor=False)
    found = contents(tmp_path / "a.tar.gz")
    everything = "".join(found.values())
    assert "weights weights" not in everything and "a stranger's file" not in everything
    collected = json.loads(found["run/collected.json"])
    assert (
        collected["variables"]["NCCL_DEBUG"] == "INFO" and not {"PATH", "HOME", "USER"} & collected["variables"].keys()
    )
    assert "torch" in collected["installed"] and "model.safetensors" in found["run/files.txt"]
    assert os.stat(tmp_path / "a.tar.gz").st_mode & 0o077 == 0


def test_a_long_log_is_cut_to_its_end_and_the_contents_say_so(broken_run, tmp_path):
    log = broken_run / EVERYWHERE[0]
    log.write_text("beginning\n" + "x" * 80 + "\n" + ("line\n" * 400_000) + "the end\n")
    collect(broken_run, tmp_path / "a.tar.gz", doctor=False)
    found = contents(tmp_path / "a.tar.gz")
    assert found[f"run/{EVERYWHERE[0]}"].endswith("the end\n") and "beginning" not in found[f"run/{EVERYWHERE[0]}"]
    whole = {entry["name"]: entry["whole"] for entry in json.loads(found["run/contents.json"])}
    assert not whole[EVERYWHERE[0]] and whole["config.yaml"]


def test_the_command_says_where_the_archive_is_and_refuses_what_is_no_run(broken_run, tmp_path, capsys):
    target = tmp_path / "b.tar.gz"
    assert run(cli, ["debug", str(broken_run), "--no-doctor", "--output", str(target)], standalone_mode=False) == 0
    out = capsys.readouterr()
    assert out.out.strip() == str(target) and "look through it" in out.err and target.is_file()
    with pytest.raises(MaquetteError, match="is not a run"):
        collect(tmp_path / "nothing", target)


def test_what_goes_while_it_is_collected_is_passed_over(broken_run):
    found = archive._walk(broken_run)
    assert next(found)[0] == broken_run / "config.yaml"
    shutil.rmtree(broken_run / "incidents" / "20261201-000000_hang")
    (broken_run / "environment.json").unlink()
    names = {path.name for path, _ in found}
    assert "stderr.log" in names
    assert not {"environment.json", "incident.json", "outside.log"} & names


def test_the_doctor_looks_at_the_run(broken_run, tmp_path, monkeypatch):
    commands = []

    def note(command, **_):
        commands.append(command)
        return subprocess.CompletedProcess(command, 0, "{}", "")

    monkeypatch.setattr(subprocess, "run", note)
    monkeypatch.chdir(tmp_path)
    collect(Path("run"), tmp_path / "a.tar.gz")
    assert [command[-1] for command in commands] == [str(broken_run)]


def test_an_archive_that_cannot_be_written_is_one_line(broken_run, tmp_path, capsys):
    (tmp_path / "file").touch()
    for target, said in (
        (tmp_path / "file" / "a.tar.gz", "cannot be written: File exists"),
        (tmp_path, "directory"),
    ):
        words = ["debug", str(broken_run), "--no-doctor", "--output", str(target)]
        assert run(cli, words, standalone_mode=False) != 0
        error = capsys.readouterr().err
        assert said in error.splitlines()[-1] and "Traceback" not in error


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(sorted(PLANTED)), st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=30))
def test_a_secret_is_found_whatever_stands_beside_it(name, beside):
    text = anonymous(f"{beside}\n{PLANTED[name]} {beside}")
    assert not [secret for secret in SECRETS if secret in text and secret not in beside]


def test_names_of_home_folders_are_left_out():
    assert anonymous(f"{HOME}/zaphod/a and /Users/zaphod/b") == "~/a and ~/b"
    assert anonymous(f"{Path.home()}/runs/a") == "~/runs/a"
    assert anonymous("/homework/zaphod and rooted /a/root.txt") == "/homework/zaphod and rooted /a/root.txt"
