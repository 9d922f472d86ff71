"""What this package adds to maquette. References are strings, so that `maquette plugins` imports no torch."""

from maquette import hookimpl


@hookimpl
def register_objectives(register):
    register("mean_flow", "maquette_meanflow.mean_flow:MeanFlowConfig", "maquette_meanflow.mean_flow:MeanFlow")


@hookimpl
def register_architectures(register):
    module = "maquette_meanflow.mean_flow_dit"
    register("mean_flow_dit", f"{module}:MeanFlowDiTConfig", f"{module}:MeanFlowDiT")


@hookimpl
def register_samplers(register):
    module = "maquette_meanflow.mean_flow_sampler"
    register("mean_flow", f"{module}:MeanFlowSamplerConfig", f"{module}:MeanFlowSampler")
