"""Readers of the same samples in several formats, for `data3d_stream.py`: each writes, opens and goes through them."""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import importlib.util
import types
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from maquette_data3d.shards.format import FORMAT, checksum, describe, fields_of, write_shard
from maquette_data3d.shards.index import write_index
from maquette_data3d.stream.dataset import Shards, ShardsConfig

POINTS, WINDOW, BATCH, SHARD = 32768, 4096, 16, 64
SHAPES = {"surface": (POINTS, 3), "normals": (POINTS, 3), "near": (POINTS, 3), "near_sdf": (POINTS,)}
VALUES = sum(int(np.prod(shape)) for shape in SHAPES.values())


def samples(count: int) -> Iterator[dict[str, np.ndarray]]:
    rng = np.random.default_rng(0)
    pool = rng.standard_normal(2 * VALUES).astype(np.float16)
    for _ in range(count):
        start = int(rng.integers(VALUES))
        values, sample = pool[start : start + VALUES], {}
        for name, shape in SHAPES.items():
            size = int(np.prod(shape))
            sample[name], values = values[:size].reshape(shape), values[size:]
        yield sample


class Ours:
    def __init__(self, folder: Path, dtype: str, prefetch: int, points: int) -> None:
        self.folder, self.settings = folder / "ours", {"dtype": dtype, "prefetch": prefetch, "points": points}
        self.batches: Iterator[Any] | None = None

    @staticmethod
    def write(folder: Path, count: int) -> None:
        files, rows, held = [], [], []
        for number, sample in enumerate(samples(count)):
            held.append(sample)
            rows.append({"id": f"{number:06d}", "shard": number // SHARD, "row": number % SHARD, "caption": "a chair"})
            rows[-1] |= {"class": "chair", "split": "train", "sha256": checksum(sample)}
            if len(held) == SHARD or number == count - 1:
                files.append(write_shard(folder / "ours", len(files), held, fields_of(held[0])))
                held = []
        index = write_index(folder / "ours" / "index.parquet", rows)
        about = {"format": FORMAT, "samples": count, "classes": ["chair"], "vocabulary": ["a", "chair"]}
        fields = {name: field.plain() for name, field in fields_of(sample).items()}
        about |= {"fields": fields, "shards": [file.plain() for file in files], "index": index.plain()}
        describe(folder / "ours", about)

    def epoch(self) -> Iterator[Any]:
        """Begins once and goes on for ever."""
        if self.batches is None:
            self.batches = self.begin(0)
        return self.batches

    def begin(self, consumed: int) -> Iterator[Any]:
        stream = Shards(ShardsConfig(str(self.folder), BATCH, list(SHAPES), **self.settings))
        stream.load_state_dict({"consumed": consumed})
        stream.setup()
        return iter(stream.train_dataloader())


class CopyLoop:
    def __init__(self, folder: Path) -> None:
        self.rows = np.memmap(folder / "plain.bin", np.float16, "r").reshape(-1, VALUES)

    def epoch(self) -> Iterator[Any]:
        order = np.random.default_rng().permutation(len(self.rows))
        for start in range(0, len(order) - BATCH + 1, BATCH):
            batch = np.empty((BATCH, VALUES), np.float16)
            for row, number in enumerate(order[start : start + BATCH]):
                batch[row] = self.rows[number]
            yield torch.from_numpy(batch)


class Peer(ABC):
    """A reader of another library; whole samples, windowed after reading, as its users must."""

    name = ""

    def __init__(self, folder: Path, workers: int, points: int) -> None:
        # MosaicML Streaming allows one reader a path.
        self.folder = folder / f"{self.name} {workers} {points}"
        self.folder.symlink_to(folder / self.name, target_is_directory=True)
        self.workers, self.points = workers, points
        self.loader = self.opened()

    @abstractmethod
    def opened(self) -> Any:
        """A loader of batches of tensors, shuffled."""

    def epoch(self) -> Iterator[Any]:
        return iter(self.loader)

    def behind_loader(self, data: Any, kind: Any = torch.utils.data.DataLoader, **settings: Any) -> Any:
        keep = self.workers > 0
        return kind(data, batch_size=BATCH, num_workers=self.workers, persistent_workers=keep, **settings)

    def cut(self, sample: Any) -> dict[str, np.ndarray]:
        start = int(torch.randint(POINTS - self.points + 1, ())) if self.points < POINTS else 0
        return {name: sample[name][start : start + self.points] for name in SHAPES}


class Plain(Peer):
    name = "plain mapped file"

    @staticmethod
    def write(folder: Path, count: int) -> None:
        (folder / Plain.name).mkdir()
        with (folder / Plain.name / "plain.bin").open("wb") as file:
            for sample in samples(count):
                for array in sample.values():
                    file.write(array.tobytes())
        (folder / "plain.bin").symlink_to(folder / Plain.name / "plain.bin")

    def opened(self) -> Any:
        self.rows = np.memmap(self.folder / "plain.bin", np.float16, "r").reshape(-1, VALUES)
        return self.behind_loader(self, shuffle=True, drop_last=True)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, number: int) -> dict[str, np.ndarray]:
        row, sample = self.rows[number], {}
        for name, shape in SHAPES.items():
            size = int(np.prod(shape))
            sample[name], row = row[:size].reshape(shape), row[size:]
        return self.cut(sample)


class Mosaic(Peer):
    name = "mosaicml-streaming"

    @staticmethod
    def write(folder: Path, count: int) -> None:
        from streaming import MDSWriter

        columns = {name: f"ndarray:float16:{','.join(map(str, shape))}" for name, shape in SHAPES.items()}
        with MDSWriter(out=str(folder / Mosaic.name), columns=columns, size_limit=SHARD * VALUES * 2) as out:
            for sample in samples(count):
                out.write(sample)

    def opened(self) -> Any:
        from streaming import StreamingDataset

        peer = self

        class Cut(StreamingDataset):
            def __getitem__(self, at: int) -> Any:
                return peer.cut(super().__getitem__(at))

        data = Cut(local=str(self.folder), shuffle=True, batch_size=BATCH)
        return self.behind_loader(data, drop_last=True)


class WebData(Peer):
    name = "webdataset"

    @staticmethod
    def write(folder: Path, count: int) -> None:
        import webdataset

        (folder / WebData.name).mkdir()
        with webdataset.ShardWriter(str(folder / WebData.name / "%05d.tar"), maxcount=SHARD, verbose=0) as out:
            for number, sample in enumerate(samples(count)):
                arrays = {f"{name}.bin": array.tobytes() for name, array in sample.items()}
                out.write({"__key__": f"{number:06d}", **arrays})

    def opened(self) -> Any:
        import webdataset

        def decoded(sample: Any) -> dict[str, np.ndarray]:
            read = {n: np.frombuffer(sample[f"{n}.bin"], np.float16).reshape(s) for n, s in SHAPES.items()}
            return {name: array.copy() for name, array in self.cut(read).items()}

        tars = sorted(str(path) for path in self.folder.glob("*.tar"))
        data = webdataset.WebDataset(tars, shardshuffle=len(tars)).shuffle(SHARD).map(decoded)
        return self.behind_loader(data, drop_last=True)


class LitData(Peer):
    """Its samples may be arrays, as a data pipeline has them, or tensors, which it reads faster."""

    name = "litdata of tensors"
    kept: Any = staticmethod(torch.from_numpy)

    @classmethod
    def write(cls, folder: Path, count: int) -> None:
        from litdata.streaming.writer import BinaryWriter

        out = BinaryWriter(str(folder / cls.name), chunk_size=SHARD)
        for number, sample in enumerate(samples(count)):
            out.add_item(number, {name: cls.kept(array) for name, array in sample.items()})
        out.done()
        out.merge()

    def opened(self) -> Any:
        from litdata import StreamingDataLoader, StreamingDataset

        peer = self

        class Cut(StreamingDataset):
            def __getitem__(self, at: Any) -> Any:
                return peer.cut(super().__getitem__(at))

        return self.behind_loader(Cut(str(self.folder), shuffle=True, drop_last=True), StreamingDataLoader)


class LitDataArrays(LitData):
    name = "litdata of arrays"
    kept = staticmethod(np.asarray)


class Absent(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Stands in for packages that MosaicML Streaming and LitData import for what is not used here."""

    names = ("torchvision", "transformers", "diffusers", "lightning_sdk")

    def find_spec(self, name: str, path: Any, target: Any = None) -> importlib.machinery.ModuleSpec | None:
        found = name.partition(".")[0] in self.names
        return importlib.machinery.ModuleSpec(name, self, is_package=True) if found else None

    def exec_module(self, module: types.ModuleType) -> None:
        module.__getattr__ = lambda name: type(name, (), {})


def readers(folder: Path, points: int) -> dict[str, Any]:
    found: dict[str, Any] = {
        f"maquette {dtype}, prefetch {depth}": Ours(folder, dtype, depth, points)
        for dtype in ("stored", "float32")
        for depth in (0, 2)
    }
    if points == POINTS:
        found["copy loop"] = CopyLoop(folder)
    for peer in (Plain, *peers()):
        for workers in (0, 2):
            found[f"{peer.name}, {workers} workers"] = peer(folder, workers, points)
    return found


def peers() -> list[type[Peer]]:
    modules = {Mosaic: "streaming", WebData: "webdataset", LitData: "litdata", LitDataArrays: "litdata"}
    return [peer for peer, module in modules.items() if importlib.util.find_spec(module)]
