"""Which samples are held out: copies and collections stay whole, held-out pairs are a split of their own."""

from __future__ import annotations

import hashlib
import json

import trimesh

from maquette_data3d import BuildConfig, ShardReader, build_shards
from maquette_data3d.building.outcome import Outcome
from maquette_data3d.building.splits import joined, splits, splits_of_collections
from maquette_data3d.shards import tools
from maquette_data3d.shards.verification import verify
from tests.data3d.built_folders import SMALL, drawn


def test_copies_of_a_shape_stay_on_one_side():
    def outcome(number, key):
        return Outcome(number, content=hashlib.sha256(str(key).encode()).hexdigest())

    many = [outcome(n, n % 500) for n in range(1000)]
    sides = splits(many, [n % 500 for n in range(1000)], 0.1)
    assert sides[:500] == sides[500:] and 60 < sides.count("validation") < 140
    assert set(splits([outcome(0, 0), outcome(1, 1)], [0, 1], 0.1)) == {"train", "validation"}
    assert splits([outcome(0, 0)], [0], 0.1) == ["train"]
    assert set(splits(many, range(1000), 0.0)) == {"train"}
    different = [outcome(n, n) for n in range(1000)]  # in groups of five shapes that are alike
    sides = splits(different, [n // 5 for n in range(1000)], 0.1)
    assert all(len(set(sides[n : n + 5])) == 1 for n in range(0, 1000, 5))
    assert 40 < sides.count("validation") < 180, "large groups are held out no more often than small ones"


def test_held_out_pairs_are_a_split_of_their_own(tmp_path):
    config = BuildConfig(
        "procedural", str(tmp_path / "s"), **{**SMALL, "resolution": 32, "count": 120}, held_out_pairs=True
    )
    build_shards(config)
    reader = ShardReader(tmp_path / "s")
    unseen = {reader.entry(number).id for number in reader.split("unseen_pairs")}
    assert unseen == {f"procedural/0/{number}" for number in range(120) if drawn(number).held_out}
    assert 0 < len(unseen) < 60
    assert len(reader.split("train")) + len(reader.split("validation")) == len(reader) - len(unseen)


def test_paraphrases_are_stored_and_drawn_from(tmp_path):
    from maquette_data3d.stream.dataset import Shards, ShardsConfig

    build_shards(BuildConfig("procedural", str(tmp_path / "s"), **{**SMALL, "count": 3}, paraphrases=4, held_out=0))
    stream = Shards(ShardsConfig(str(tmp_path / "s"), batch_size=3, paraphrases=True))
    stream.setup()
    batches = stream.train_dataloader()
    seen = {}
    for batch, _ in zip(batches, range(30), strict=False):
        for name, caption in zip(batch["id"], batch["caption"], strict=True):
            seen.setdefault(name, set()).add(caption)
    assert seen == {f"procedural/0/{n}": set(drawn(n).captions(5)) for n in range(3)}


def test_collections_stay_whole(tmp_path):
    packs = {f"a/{n}.obj": "one" for n in range(3)} | {f"b/{n}.obj": "one" for n in range(2)}
    packs |= {f"c/{n}.obj": "two" for n in range(4)} | {f"d/{n}.obj": "three" for n in range(6)}
    for number, name in enumerate(packs):
        path = tmp_path / "meshes" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        trimesh.creation.box((1, 1 + number * 0.1, 0.4)).export(path)
    manifest = [json.dumps({"file": name, "pack": pack}) for name, pack in packs.items()]
    (tmp_path / "meshes" / "manifest.jsonl").write_text("\n".join(manifest))
    settings = {**SMALL, "held_out": 0.3, "near_duplicates": 1.0}
    for split_by, whole in (("pack", packs), ("folder", {name: name[0] for name in packs})):
        out = tmp_path / split_by
        build_shards(BuildConfig(str(tmp_path / "meshes"), str(out), **settings, split_by=split_by))
        reader = ShardReader(out)
        sides = {}
        for entry in map(reader.entry, range(len(reader))):
            sides.setdefault(whole[entry.id], set()).add(entry.split)
        assert all(len(side) == 1 for side in sides.values()), sides
        assert {side for (side,) in sides.values()} == {"train", "validation"}
        assert not verify(out), "groups of the index are whole collections"
        # What is split anew later does not divide them either.
        tools.split(out, {"train": 0.5, "validation": 0.5})
        again = {(whole[e.id], e.split) for e in map(ShardReader(out).entry, range(len(reader)))}
        assert len(again) == len(set(whole.values()))


def test_collections_are_held_out_by_their_share_of_the_samples():
    names = [f"pack {n // 10}" for n in range(1000)]
    sides = splits_of_collections([n // 10 * 10 for n in range(1000)], names, 0.2)
    assert sides.count("validation") == 200
    assert set(splits_of_collections([0, 0, 2], ["a", "a", "b"], 0.01)) == {"train", "validation"}
    assert splits_of_collections([0, 0], ["a", "a"], 0.5) == ["train", "train"]
    # A copy in another pack ties the two together.
    assert joined([0, 1, 2, 1], ["a", "a", "b", "b"]) == [0, 0, 0, 0]
    assert joined([0, 1, 0], ["", "", ""]) == [0, 1, 0]
