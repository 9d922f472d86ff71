"""The report page of a build: counts, reasons, throughput, pictures and lists, all of it text from strangers."""

from __future__ import annotations

import re

import trimesh

from maquette.types import Mesh
from maquette_data3d.rendering import thumbnail
from maquette_data3d.viewing import write_build_report

HOSTILE = "<script>alert(1)</script>.obj"


def picture():
    made = trimesh.creation.box((0.5, 0.5, 0.5))
    return thumbnail(Mesh(made.vertices, made.faces), 32)


def rows(kept=3, lost=4):
    image = picture()
    mended = {"flipped_faces": 2}
    good = [{"file": f"{n}.glb", "state": "kept", "repairs": {} if n else mended} for n in range(kept)]
    why = {"file": HOSTILE, "state": "quarantined", "detail": '"x" & y'}
    bad = [{**why, "reason": "flat" if n else "empty"} for n in range(lost)]
    return [{**row, "thumbnail": image} for row in good] + bad


def written(tmp_path, *arguments, **options):
    write_build_report(tmp_path / "report.html", *arguments, **options)
    return (tmp_path / "report.html").read_text(encoding="utf-8")


def test_counts_reasons_and_throughput_are_there(tmp_path):
    stages = {"read": {"seconds": 4.0, "samples": 10}, "views": {"seconds": 0.0, "samples": 3, "largest_ms": 7}}
    text = written(tmp_path, {"found": 7, "vertices": 12345, "source": {"a": [1, 2]}, "ok": True}, rows(), stages)
    assert "<b>12\u2009345</b>" in text and "a 1, 2" in text
    assert re.search(r"flat</td><td class=\"number\">3</td>.*?42\.9%", text, re.DOTALL)
    assert text.index(">flat<") < text.index(">empty<"), "the most frequent reason first"
    assert ">2.5<" in text and "largest ms" in text
    given = written(tmp_path, {}, [], {"read": {"seconds": 4.0, "samples": 10, "per_core_second": 3.25}})
    assert ">3.25<" in given and ">2.5<" not in given
    assert text.count("data:image/webp;base64,") == 3 and text.count('class="repaired"') == 1
    assert "flipped faces 2" in text


def test_shares_are_of_all_files_and_lists_of_files_are_shown_once(tmp_path):
    summary = {"found": 100, "quarantined_files": [{"file": "only-here.glb"}], "nothing": {}}
    text = written(tmp_path, summary, rows(), {})
    assert "3.0%" in text and "only-here" not in text and "nothing" not in text


def test_texts_are_escaped_and_nothing_comes_from_outside(tmp_path):
    summary = {HOSTILE: HOSTILE, "x</style>": 3}
    text = written(tmp_path, summary, rows(), {HOSTILE: {HOSTILE: HOSTILE}}, title=HOSTILE)
    assert "<script>alert" not in text and "</style>" not in text.split("</style>", 1)[1]
    assert "&lt;script&gt;alert(1)" in text and "http://" not in text and "https://" not in text
    assert "default-src &#39;none&#39;" in text and "unsafe-inline" not in text and "style=" not in text


def test_a_thumbnail_that_is_no_picture_is_left_out(tmp_path):
    text = written(tmp_path, {}, [{"file": "a", "thumbnail": b"<svg onload=alert(1)>"}], {})
    assert "<img" not in text and "svg onload" not in text


def test_long_builds_are_cut_and_say_so(tmp_path):
    text = written(tmp_path, {}, rows(9, 20), {}, most_pictures=3, most_rows=5)
    assert text.count("data:image/webp") == 3 and "3 of 9 pictures" in text and "The first 5 of 20." in text
    assert len(re.findall(r"<td>flat</td>\s*<td>", text)) == 4


def test_an_empty_build_is_a_page(tmp_path):
    assert "Build report" in written(tmp_path, {}, [], {})


def test_the_same_build_is_the_same_page(tmp_path):
    assert written(tmp_path, {"found": 7}, rows(), {}) == written(tmp_path, {"found": 7}, rows(), {})
