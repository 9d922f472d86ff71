"""The Meshy-compatible front: what becomes of orders."""

from __future__ import annotations

import base64
import io
import time
from types import SimpleNamespace

import pytest
from PIL import Image

from maquette.assets import export
from maquette.errors import MaquetteError
from maquette_serve.service.meshy import bodies, wishes
from tests.serve.meshy import stand_in

pytest.importorskip("maquette_data3d", reason="without maquette-data3d no mesh can be written")


def data_uri(kind="PNG"):
    out = io.BytesIO()
    Image.new("RGB", (4, 4)).save(out, kind)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(out.getvalue()).decode()}"


def last(served):
    return served.engine.orders[-1]


def test_a_preview_is_refined_with_textures(served, preview):
    path = "/v2/text-to-3d"
    refined = stand_in.done(
        served, path, mode="refine", preview_task_id=preview["id"], enable_pbr=True, hd_texture=True
    )
    given = last(served)
    assert (given.pipeline, given.request.prompt) == ("painter", "a red chair")
    assert given.request.options == {"size": 4096}
    assert given.mesh.name == "model.glb"
    assert (refined["type"], refined["prompt"]) == ("text-to-3d-refine", "a red chair")
    (maps,) = refined["texture_urls"]
    assert set(maps) == {"base_color", "metallic", "roughness"}
    colours = {name: Image.open(io.BytesIO(served.get(url).content)).getpixel((0, 0)) for name, url in maps.items()}
    assert colours == {"base_color": (200, 10, 20), "metallic": 255, "roughness": 128}
    assert all(url.split("?")[0].endswith(".png") for url in maps.values())


def test_pictures_come_as_data_and_their_bytes_are_not_shown_again(served):
    task = stand_in.done(served, "/v1/image-to-3d", image_url=data_uri(), target_formats=["stl"], ai_model="meshy-6")
    (picture,) = last(served).images
    assert Image.open(picture).size == (4, 4)
    assert task["image_url"] == "data:image/png;base64,..."
    assert set(task["model_urls"]) == {"glb", "stl"}
    stand_in.done(served, "/v1/multi-image-to-3d", image_urls=[data_uri(), data_uri("JPEG"), data_uri("WEBP")])
    assert [path.suffix for path in last(served).images] == [".png", ".jpg", ".webp"]
    served.delete(f"/openapi/v1/image-to-3d/{task['id']}")
    assert not picture.exists()


def test_a_shape_and_its_textures_are_one_task(served):
    before = len(served.engine.orders)
    asked = {"target_polycount": 500, "origin_at": "bottom", "texture_prompt": "old wood"}
    task = stand_in.done(served, "/v1/image-to-3d", image_url=data_uri(), should_texture=True, **asked)
    shape, paint = served.engine.orders[before:]
    assert (shape.pipeline, shape.files, len(shape.images)) == ("generator", ("stage1.glb",), 1)
    assert shape.finish == ({"name": "decimate", "faces": 500},)
    assert (paint.pipeline, paint.request.prompt, paint.images) == ("painter", "old wood", ())
    assert (paint.mesh.name, paint.finish) == ("stage1.glb", ({"name": "origin", "at": "bottom"},))
    assert task["texture_urls"]
    assert set(task["model_urls"]) == {"glb", "obj", "fbx", "stl", "usdz"}
    stand_in.done(served, "/v1/image-to-3d", image_url=data_uri())
    assert (last(served).pipeline, len(last(served).images)) == ("painter", 1)
    assert "texture_urls" not in stand_in.done(served, "/v1/image-to-3d", image_url=data_uri(), should_texture=False)
    stand_in.done(served, "/v2/text-to-3d", mode="preview", prompt="a chair", should_texture=True)
    assert (last(served).pipeline, last(served).request.prompt) == ("painter", "a chair")


def test_a_painter_is_told_what_it_reads_and_nothing_else():
    def wish(reads, **asked):
        sources = SimpleNamespace(painter_reads=frozenset(reads), pictures=lambda some: [one for one in some if one])
        return wishes.image_to_3d(bodies.ImageTo3D(image_url="data:,", **asked), sources)

    assert wish({"text"}).then == wish({}).then == ()
    (painted,) = wish({"text"}, texture_prompt="wood").then
    assert (painted.inputs["prompt"], painted.inputs["images"]) == ("wood", [])
    assert wish({"image"}).then[0].inputs["images"] == ["data:,"]
    with pytest.raises(MaquetteError, match="reads no image; give texture_prompt"):
        wish({"text"}, should_texture=True)
    assert wish({}, should_texture=True).then[0].role == "texture"  # which is refused where it has no player


@pytest.mark.parametrize(
    ("body", "steps"),
    [
        ({}, ()),
        ({"target_polycount": 500}, ({"name": "decimate", "faces": 500},)),
        ({"decimation_mode": 4}, ({"name": "decimate", "faces": 3000},)),
        ({"model_type": "lowpoly", "topology": "quad"}, ({"name": "decimate", "faces": 2000},)),
        ({"should_remesh": True}, ({"name": "remesh", "faces": 30000, "topology": "triangle"},)),
        (
            {"topology": "quad", "target_polycount": 900, "origin_at": "center"},
            ({"name": "remesh", "faces": 900, "topology": "quad"}, {"name": "origin", "at": "centre"}),
        ),
    ],
)
def test_wishes_about_faces_become_finishing(served, body, steps):
    stand_in.order(served, "/v2/text-to-3d", mode="preview", prompt="a chair", **body)
    deadline = time.monotonic() + 10
    while served.service.store.unfinished() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert last(served).finish == steps


def test_a_mesh_is_remeshed_resized_converted_and_unwrapped(served, preview):
    source = {"input_task_id": preview["id"]}
    stand_in.done(
        served, "/v1/remesh", **source, target_polycount=800, topology="quad", resize_height=0.5, origin_at="bottom"
    )
    assert last(served).request.options == {"faces": 800, "topology": "quad"}
    sized = {"name": "units", "size_m": 0.5, "along": "height"}
    assert last(served).finish == (sized, {"name": "origin", "at": "bottom"})
    stand_in.done(served, "/v1/remesh", **source, convert_format_only=True, target_formats=["obj"])
    assert last(served).pipeline == "finish"
    task = stand_in.done(served, "/v1/resize", **source, resize_longest_side=2)
    long = {"name": "units", "size_m": 2.0, "along": "longest"}
    assert last(served).request.options == {"steps": [long, {"name": "origin", "at": "bottom"}]}
    assert set(task["model_urls"]) == {"glb"}
    assert set(stand_in.done(served, "/v1/convert", **source, target_formats=["3mf"])["model_urls"]) == {"glb", "3mf"}
    assert stand_in.done(served, "/v1/uv-unwrap", **source)["type"] == "uv-unwrap"


def test_a_mesh_comes_as_data_or_by_an_address_of_this_server(served, preview, tmp_path):
    data = base64.b64encode(export(stand_in.plain(), tmp_path / "a.glb").read_bytes()).decode()
    stand_in.done(served, "/v1/remesh", model_url=f"data:application/octet-stream;base64,{data}")
    assert last(served).mesh.suffix == ".glb"
    stand_in.done(served, "/v1/remesh", model_url=preview["model_urls"]["glb"])
    stand_in.done(served, "/v1/image-to-3d", image_url=preview["thumbnail_url"])
    assert last(served).images[0].name == "thumbnail.png"
    forged = served.post("/openapi/v1/remesh", json={"model_url": preview["model_urls"]["glb"] + "0"})
    assert (forged.status_code, "does not hold" in forged.json()["message"]) == (400, True)


def test_retexturing_follows_words_or_pictures(served, preview):
    source = {"input_task_id": preview["id"]}
    task = stand_in.done(served, "/v1/retexture", **source, text_style_prompt="wood", enable_original_uv=False)
    assert (last(served).request.prompt, last(served).request.options) == ("wood", {"keep_uv": "never"})
    assert task["texture_urls"]
    stand_in.done(served, "/v1/retexture", **source, image_style_url=data_uri())
    assert (last(served).request.prompt, len(last(served).images)) == ("", 1)


def test_rigging_and_animations(served, preview):
    rigged = stand_in.done(served, "/v1/rigging", input_task_id=preview["id"], height_meters=1.2)
    assert set(rigged["result"]) == {"rigged_character_glb_url", "rigged_character_fbx_url"}
    assert rigged["type"] == "rig"
    assert last(served).finish == ({"name": "units", "size_m": 1.2, "along": "height"},)
    after = {"operation_type": "change_fps", "fps": 24}
    moved = stand_in.done(served, "/v1/animations", rig_task_id=rigged["id"], action_id=0, post_process=after)
    assert last(served).request.options["fps"] == 24
    assert last(served).request.options["clip"]
    assert last(served).finish == ({"name": "units", "size_m": 1.2, "along": "height"},)
    assert {"animation_glb_url", "animation_fbx_url", "processed_animation_fps_fbx_url"} == set(moved["result"])
    for path in ("/v1/rigging", "/v1/animations"):
        assert served.get(f"/openapi{path}").status_code in (404, 405)


def test_printability(served, preview):
    task = stand_in.done(served, "/v1/print/analyze", input_task_id=preview["id"])
    told = task["printability"]
    assert (told["status"], told["issue_count"], told["error_count"]) == ("error", 1, 1)
    assert told["metrics"]["is_watertight"] is False
    assert "model_urls" not in task
    stand_in.done(served, "/v1/print/repair", input_task_id=preview["id"])
    assert last(served).request.options["steps"][0]["name"] == "print_repair"
