"""fp8 by module swap: the large linear layers of a model's blocks multiply in 8 bits, under the same names."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from torch import Tensor, nn

from maquette.errors import MaquetteError
from maquette.precision.fp8_product import TILE, fp8_product
from maquette.precision.policy import Precision

ShapeFilter = Callable[[int, int], str | None]
"""(inputs, outputs) -> why fp8 does not pay for a linear layer of these sizes, or None where it does."""

DELICATE = ("norm", "modulation", "router")
"""Parts of names of layers that stay exact: what they make scales, shifts or routes everything else."""


class Fp8Linear(nn.Linear):
    """A linear layer whose three products of training are fp8; parameters, names and initialisation as before.

    ``recipe`` is ``rowwise`` or ``rowwise_with_gw_hp`` (gradient of the weight in the compute dtype).
    """

    recipe: str = "rowwise"

    @classmethod
    def of(cls, linear: nn.Linear, recipe: str = "rowwise") -> Fp8Linear:
        """Take over a linear layer's parameters, not copies of them."""
        new = cls(linear.in_features, linear.out_features, bias=linear.bias is not None, device="meta")
        new.weight, new.bias, new.recipe = linear.weight, linear.bias, recipe
        return new.train(linear.training)

    def product(self, x: Tensor, weight: Tensor) -> Tensor:
        """x [..., K] times weight [N, K] transposed; ``weight`` may be this rank's part of the layer's."""
        return fp8_product(x, weight, self.recipe == "rowwise_with_gw_hp")

    def forward(self, input: Tensor) -> Tensor:
        """As nn.Linear's: [..., K] -> [..., N]."""
        out = self.product(input, self.weight)
        return out if self.bias is None else out + self.bias.to(out.dtype)


def at_least(width: int) -> ShapeFilter:
    """Refuses layers that are narrower than ``width`` on either side, or that tensor cores cannot take."""

    def reason(inputs: int, outputs: int) -> str | None:
        if inputs % TILE or outputs % TILE:
            return f"{inputs} x {outputs} is no multiple of {TILE}"
        return f"{inputs} x {outputs} is narrower than {width}" if min(inputs, outputs) < width else None

    return reason


def survey(model: nn.Module, shape_filter: ShapeFilter) -> dict[str, str | None]:
    """Every linear layer of the blocks by name: why it stays as it is, or None where fp8 pays.

    Layers outside the blocks (embeddings, head, conditioner) never take part: they are the first and the last.
    """
    found: dict[str, str | None] = {}
    for name, module in _block_linears(model):
        delicate = [part for part in DELICATE if part in name.rsplit(".", 1)[-1]]
        reason = f"a {delicate[0]} stays exact" if delicate else shape_filter(module.in_features, module.out_features)
        found[name] = reason
    return found


def swap_linears(model: nn.Module, shape_filter: ShapeFilter, recipe: str = "rowwise") -> list[str]:
    """Replace the linear layers that pay, in place; to be called before anything is sharded or compiled.

    Returns:
        The names of the replaced layers, in order.
    """
    chosen = [name for name, reason in survey(model, shape_filter).items() if reason is None]
    for name in chosen:
        linear = model.get_submodule(name)
        assert isinstance(linear, nn.Linear)
        parent, _, child = name.rpartition(".")
        setattr(model.get_submodule(parent), child, Fp8Linear.of(linear, recipe))
    return chosen


def apply_fp8(model: nn.Module, precision: Precision) -> list[str]:
    """What ``train.precision=fp8`` does to a model; nothing under the other words.

    Raises:
        MaquetteError: no layer would gain, so that the word would promise what it does not do.
    """
    if not precision.fp8:
        return []
    shape_filter = at_least(precision.min_width)
    chosen = swap_linears(model, shape_filter, precision.recipe)
    if not chosen:
        reasons = [reason for reason in survey(model, shape_filter).values() if reason]
        raise MaquetteError(
            f"train.precision=fp8: no linear layer of the model's blocks would gain ({_few(reasons)}); "
            "use train.precision=bf16, or lower train.fp8_min_width to try it all the same"
        )
    return chosen


def _few(reasons: list[str]) -> str:
    distinct = list(dict.fromkeys(reasons))
    return "; ".join(distinct[:3]) + ("; ..." if len(distinct) > 3 else "") if distinct else "it has none"


def _block_linears(model: nn.Module) -> Iterator[tuple[str, nn.Linear]]:
    blocks: list[nn.Module] = model.blocks() if hasattr(model, "blocks") else []  # type: ignore[operator]
    inside = {module for block in blocks for module in block.modules()}
    for name, module in model.named_modules():
        # The exact class: a subclass computes something else, which a swap would drop.
        if module in inside and type(module) is nn.Linear:
            yield name, module
