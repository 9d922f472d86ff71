"""What pipelines of flow stages have in common, as an engine prepares them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from maquette.compilation import compile_blocks
from maquette.stepping import SteppedPipeline
from maquette.types import Request
from maquette_models.adapters.adapter_rack import AdapterRack
from maquette_models.adapters.hot_swap import HotSwap
from maquette_models.adapters.low_rank import check_weights_as_trained
from maquette_models.pipelines.compact_weights import compact
from maquette_models.pipelines.flow_stage import FlowStage
from maquette_models.pipelines.recorded_passes import CudaGraphs

if TYPE_CHECKING:
    from maquette.split_passes import SplitPasses


class FlowPipeline(HotSwap, SteppedPipeline):
    """A pipeline with one or more flow stages among its attributes; `model` is that of the one that takes adapters."""

    @property
    def stages(self) -> list[FlowStage]:
        """In the order of a request's way."""
        return [value for value in vars(self).values() if isinstance(value, FlowStage)]

    def dressed(self, request: Request) -> Request:
        """A request with its adapter found, once for its whole way: whatever becomes of the file meanwhile.

        Raises:
            MaquetteError: there is no such adapter.
        """
        options = {**request.options}
        for stage in self.stages:
            if stage.model is self.model and (found := stage.resolved(request)):
                options["adapter"] = found
        return replace(request, options=options)

    def use_weights(self, kind: str) -> None:
        """Store the weights of the stages' blocks as bf16, int8 or fp8.

        Raises:
            MaquetteError: an unknown kind.
        """
        _ = self.base_sha256  # adapters are compared with the weights as they came
        for stage in self.stages:
            compact(stage.model, kind)

    def compile_stages(self, backend: str = "inductor") -> None:
        """Compile the stages' blocks, once for each size of batch that is used (`ExactBatches`); on a GPU their passes
        are then recorded as CUDA graphs.

        Raises:
            MaquetteError: an unknown backend.
        """
        for stage in self.stages:
            compile_blocks(stage.model.blocks(), backend, dynamic=False)  # type: ignore[operator]
            if stage.device.type == "cuda" and not stage.batched.shared:
                stage.batched.record(CudaGraphs())

    def split_stages(self, split: SplitPasses) -> None:
        """Let several processes compute the stages' passes together, each a share of the tokens.

        Raises:
            MaquetteError: a stage's model cannot be split over so many.
        """
        for stage in self.stages:
            stage.batched.share(split)

    def register_adapters(self, folder: Path) -> None:
        """Let requests name adapters: `options: {adapter: NAME}` or `NAME:0.8`, files NAME.safetensors of a folder.

        They are read when they are first asked for, and again when they have changed.

        Raises:
            MaquetteError: no such folder, or the weights are stored small.
        """
        check_weights_as_trained(self.model)
        rack = AdapterRack(folder, self)
        for stage in self.stages:
            if stage.model is self.model:
                stage.adapters = rack


def without_adapter(request: Request) -> dict[str, Any]:
    """A request's options for a stage whose model takes no adapters."""
    return {key: value for key, value in request.options.items() if key != "adapter"}
