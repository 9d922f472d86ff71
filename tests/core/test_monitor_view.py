"""A run is seen from its files alone, whatever ended it: journals, `maquette top`, the report's section."""

from __future__ import annotations

import json
import signal
import subprocess
import sys

import pytest

from maquette.errors import MaquetteError
from maquette.forensics import incidents
from maquette.monitoring.journal import Journal, journal_file, last_records, read_journal
from maquette.monitoring.view import view_run
from maquette.report import Report, write_report


def test_a_journal_is_bounded_and_its_torn_lines_are_passed_over(tmp_path):
    journal = Journal(tmp_path, 3, size=4000)
    for number in range(200):
        journal.write({"time": float(number), "loss": float("nan"), "number": number})
    kept = list(read_journal(journal_file(tmp_path, 3)))
    assert [record["number"] for record in kept] == list(range(200 - len(kept), 200)) and len(kept) > 40
    assert sum(path.stat().st_size for path in (tmp_path / "monitor").iterdir()) <= 4000 + 2 * 60
    assert kept[0]["loss"] == "nan"  # strict JSON has no such number
    with journal.path.open("a") as file:
        file.write('{"time": 200.0, "num')
    Journal(tmp_path, 3, size=4000).write({"time": 201.0, "number": 201})
    assert [record["number"] for record in read_journal(journal.path)][-2:] == [199, 201]
    assert [r["number"] for r in last_records(journal.path, since=197.5)] == [198, 199, 201]
    assert [r["number"] for r in last_records(journal.path)] == [201]


def test_an_interval_is_read_whole_however_long_its_lines_are(tmp_path):
    journal = Journal(tmp_path, 0, size=2**20)
    for number in range(300):
        journal.write({"time": float(number), "filling": "x" * 2000})
    assert journal.path.stat().st_size < 200 * 2000 and journal.path.with_suffix(".old.jsonl").is_file()
    assert [r["time"] for r in last_records(journal.path, since=99.5)] == list(range(100, 300))
    assert [r["time"] for r in last_records(journal.path)] == [299]


def test_a_journal_that_cannot_be_written_warns_once(tmp_path, capsys):
    (tmp_path / "monitor").write_text("in the way")
    journal = Journal(tmp_path, 0, size=4000)
    journal.write({"time": 1.0})
    journal.write({"time": 2.0})
    assert capsys.readouterr().err.count("no readings are written") == 1


KILLED = """
import os, sys
from pathlib import Path
from maquette.monitoring.journal import Journal
journal, number = Journal(Path(sys.argv[1]), 0, 10**8), 0
while True:
    journal.write({"time": float(number), "filling": "x" * 2000})
    number += 1
    if number == 50:
        print("on", flush=True)
"""


def test_a_kill_leaves_whole_lines(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(tmp_path)], stdout=subprocess.PIPE)
    process.stdout.readline()
    process.send_signal(signal.SIGKILL)
    process.wait()
    lines = journal_file(tmp_path, 0).read_text().splitlines()
    assert len(lines) >= 50 and [json.loads(line)["time"] for line in lines] == list(range(len(lines)))


def run_of(folder, age=1.0, **changes):
    """A run of two ranks whose last reading is ``age`` seconds old; the second's last line is torn."""
    for rank in (0, 1):
        row = {"time": 1000.0 - age, "interval": 10.0, "rank": rank, "world": 2, "phase": "train", "host": "node"}
        times = {"count": 5, "data": 0.01, "compute": 1.0, "communication": 0.5, "total": 1.51}
        row |= {"step_times": times, "host_values": {"host_pressure_io": 0.0}}
        row |= {"step": 40 + rank, "steps": 100, "training": {"loss": 0.125, "steps_per_second": 2.0}}
        gpu = {"index": rank, "gpu_utilization": 93.0, "gpu_memory_used": 2.0**31, "throttle": ["hardware_thermal"]}
        Journal(folder, rank, 10**6).write(row | {"gpus": [gpu]} | changes)
    with journal_file(folder, 1).open("a") as file:
        file.write('{"time": 1000.0, "st')
    (folder / "events").mkdir(exist_ok=True)
    event = {"time": 990.0, "rank": 0, "kind": "straggler", "straggler": 1, "part": "data"}
    (folder / "events" / "rank_00000.jsonl").write_text(json.dumps(event) + "\n")
    incidents.record(folder, "hang", "rank 1 is stopped", {})
    return folder


@pytest.mark.parametrize(
    ("age", "changes", "finished", "state"),
    [
        (1.0, {}, False, "running"),
        (1.0, {}, True, "running"),  # a finished run that goes on with more steps
        (3000.0, {}, False, "dead: no sign of life for 50 min"),
        (200.0, {"phase": "ended"}, True, "finished 3 min ago"),
        (200.0, {"phase": "ended"}, False, "stopped 3 min ago"),
        (9.0, {"phase": "failed"}, False, "failed 9 s ago"),
    ],
)
def test_a_run_is_running_finished_stopped_failed_or_dead(tmp_path, age, changes, finished, state):
    run_of(tmp_path, age, **changes)
    if finished:
        (tmp_path / "result.json").write_text("{}")
    view = view_run(tmp_path, now=1000.0)
    assert view.state == state and view.slowest_step == 40 and len(view.ranks) == 2
    assert view.ranks[1].share("compute") == pytest.approx(1 / 1.51)


def test_a_rank_that_is_silent_is_named(tmp_path):
    run_of(tmp_path, 100.0)
    Journal(tmp_path, 0, 10**6).write(last_records(journal_file(tmp_path, 0))[0] | {"time": 999.0})
    assert view_run(tmp_path, now=1000.0).state == "running; no sign of rank 1"


def test_top_shows_a_run_without_torch(tmp_path):
    run_of(tmp_path)
    code = (
        "import sys; from maquette.cli import cli; cli(['top', sys.argv[1], '--once'], standalone_mode=False);"
        "assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for expected in (
        "dead",
        "step 40/100",
        "loss 0.125",
        "93 % hardware_thermal",
        "2.0 GiB",
        "66%",
        "straggler 1",
        "hang: rank 1 is stopped",
    ):
        assert expected in done.stdout, (expected, done.stdout)


def test_top_of_a_folder_without_readings_is_a_mistake_in_one_line(tmp_path):
    with pytest.raises(MaquetteError, match="holds no readings"):
        view_run(tmp_path)


def test_the_report_shows_ranks_and_events_of_a_run_and_nothing_of_one_without(tmp_path):
    (tmp_path / "empty").mkdir()
    run_of(tmp_path / "generator")
    runs = {"generator": tmp_path / "generator", "autoencoder": tmp_path / "empty"}
    write_report(tmp_path / "report.html", Report("title", "", runs=runs))
    text = (tmp_path / "report.html").read_text()
    assert text.count("<svg") == 1 and "generator: the machine" in text and "autoencoder" not in text
    assert "<td>93 %</td>" in text and "straggler 1, part data" in text and "<td>66.2%</td>" in text
    assert "rank 1 is stopped" in text
