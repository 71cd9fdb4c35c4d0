"""A user's own ``torch.nn.Module`` as a problem: ``B`` runs of one module, each with its own parameters.

The module is called through `torch.func.functional_call`, vectorised over the rows of the parameters with
`torch.func.vmap`. A run's own are its start and the order of its mini-batches; the data and everything in the module that
is not trained are shared.

What a module does beside its parameters must be a function of them, or a search could not compare two points:

* **Dropout** is off, as under ``module.eval()``.
* **Batch normalization** uses the statistics of the examples at hand, in the mode of training. No running statistics are
  kept: each measurement uses those of its own examples.
  With ``batch_statistics=False`` it uses the stored ones, as constants.
* **Buffers and frozen parameters** are constants that all runs share.
* A module that draws random numbers all the same, or that writes to its buffers, is refused.

Rows do not depend on each other beyond rounding. They are not equal bit for bit: the kernels that `vmap` chooses, a grouped
convolution for one, may sum in another order for another number of runs. Modules for which `vmap` has no rule (recurrent
layers, branches on values) are called once per run.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, replace_all_batch_norm_modules_, vmap
from torch.utils.flop_counter import FlopCounterMode

from teleport_env.instances import Batch, Instance
from teleport_env.modules.attention import plain_attention
from teleport_env.modules.finder import Found, check_module, find_symmetries
from teleport_env.problems.base import Defaults, Problem
from teleport_env.problems.network_problem import CLOSED_FORM_MENU
from teleport_env.random import Streams
from teleport_env.reading import flag, integer, known, number, refuse
from teleport_env.symmetries.base import Symmetry

Loss = Callable[[Any, Tensor], Tensor]
Data = tuple[Any, Tensor]

STARTS = ("reset", "keep")
_EVALUATION_ELEMENTS = 1 << 22  # numbers of input that one measurement holds for all its runs


class ModuleProblem(Problem):
    """The training of a ``torch.nn.Module``, its symmetries found by `teleport_env.modules.find_symmetries`.

    ## Description
    ``L(w) = loss(module(x), y)`` on a mini-batch or on all examples; ``w`` are the module's trainable parameters, one after
    the other in the order of ``module.named_parameters()``.

    ## Starting State
    Every instance initialises the module anew from its own stream (``start="reset"``). All splits share the data and
    differ in their starts.

    Instance tensors: ``order_key`` ``(B,)`` int64, with mini-batches. Shared: ``inputs_0``, ..., ``targets``, and those
    of the validation set, with the prefix ``validation_``.

    Args:
        module: The module; it is copied and never changed.
        loss: ``(outputs, targets) -> `` a number, the mean over the examples, such as ``F.cross_entropy``.
        data: ``(inputs, targets)`` of the training set. ``inputs`` is a tensor ``(N, ...)``, or a tuple of them that become
            the module's arguments; ``targets`` is a tensor ``(N, ...)``.
        batch_size: Examples in a mini-batch; None: every step sees all.
        validation: ``(inputs, targets)`` that are measured and never trained on, or None.
        start: ``"reset"``: every submodule with ``reset_parameters`` (or ``_reset_parameters``) is initialised anew, and
            other parameters start where the given module has them. ``"keep"``: all runs start from the given module. Or a
            function that initialises a copy of the module in place, called under a seeded generator.
        batch_statistics: Whether batch normalization uses the statistics of the examples at hand.
        learning_rate: Default base learning rate.
        budget: Default budget in gradient evaluations.
        name: Name in tables and random streams.

    Raises:
        ValueError: The module has no trainable parameter, draws random numbers, changes its buffers, or the loss of a few
            examples is not one finite number.

    Attributes:
        vectorized: Whether all runs share one call (`torch.func.vmap`).
    """

    def __init__(
        self,
        module: nn.Module,
        loss: Loss,
        data: Data,
        batch_size: int | None = None,
        validation: Data | None = None,
        *,
        start: str | Callable[[nn.Module], Any] = "reset",
        batch_statistics: bool = True,
        learning_rate: float = 0.05,
        budget: float = 100.0,
        name: str = "Module",
    ) -> None:
        check_module(module)
        if not callable(loss):
            refuse("loss", "a function (outputs, targets) -> number, such as F.cross_entropy", loss)
        if not isinstance(name, str):
            refuse("name", "a string", name)
        self.name = name
        # a compiled module is the wrapper of one, which `vmap` does not enter
        try:
            self._given = copy.deepcopy(getattr(module, "_orig_mod", module)).cpu()
        except RuntimeError as error:
            raise ValueError(f"the module cannot be copied: {_first_line(error)}") from error
        self._start = start if callable(start) else known("start", start, STARTS)
        self._loss = loss
        self._module = copy.deepcopy(self._given).eval()
        if flag("batch_statistics", batch_statistics):
            replace_all_batch_norm_modules_(self._module)
        trained = {key: p for key, p in self._module.named_parameters() if p.requires_grad}
        if not trained:
            raise ValueError("module has no trainable parameter: at least one needs requires_grad=True")
        self._shapes = {key: p.shape for key, p in trained.items()}
        self._sizes = [p.numel() for p in trained.values()]
        self._dtype = next(iter(trained.values())).dtype
        self._fixed = {
            key: value.detach().clone()
            for key, value in [*self._module.named_parameters(), *self._module.named_buffers()]
            if key not in trained
        }
        self._given_data = (data, validation)
        self._data = _columns("data", data)
        self._validation = None if validation is None else _columns("validation", validation)
        examples = len(self._data["targets"])
        if batch_size is not None:
            batch_size = integer("batch_size (None: all examples)", batch_size, least=1, most=examples)
        self._batch_size = batch_size
        self._rate = number("learning_rate", learning_rate, above=0)
        self._budget = number("budget", budget, least=2)
        self._kept: dict[Any, Any] = {}
        self.vectorized = True  # else the module is called once per run
        self._try_out()

    def _try_out(self) -> None:
        """Raise ValueError where the loss of two runs on a few examples is no loss."""
        dtype, count = self._dtype, min(4, len(self._data["targets"]))
        before = [value.clone() for _, value in self._constants(dtype)]
        rows = torch.stack([self._first_start, self._first_start]).to(dtype)
        data = {key: value[:count] for key, value in self._shared(dtype, "cpu").items()}
        with torch.no_grad():
            try:
                losses = self._losses(rows, data, "", None)
            except Exception as error:  # vmap has no type of error for what it has no rule for
                self.vectorized = False  # what is wrong with the module itself is raised by the second try, below
                why = _first_line(error)
        if not self.vectorized:
            try:
                with torch.no_grad(), torch.random.fork_rng(devices=[]):
                    losses, again = (self._losses(rows, data, "", None) for _ in range(2))
            except Exception as error:
                raise ValueError(f"the loss of the module on {count} examples fails: {_first_line(error)}") from error
            warnings.warn(
                f"the problem {self.name!r} calls its module once per run, so that 64 runs take 64 times as long as one: "
                f"torch.func.vmap cannot vectorize it ({why})",
                stacklevel=3,
            )
            if not torch.equal(losses, again):
                raise ValueError(
                    "the module draws random numbers, but a loss must be a function of its parameters: leave out what "
                    "draws, such as F.dropout(..., training=True)"
                )
        if losses.shape != (2,):
            raise ValueError(f"loss must return one number for a batch, got shape {tuple(losses.shape[1:])}")
        if not bool(torch.isfinite(losses).all()):
            raise ValueError(f"the loss of the module on the first {count} examples is {float(losses[0])}")
        if self._validation is not None:
            try:
                with torch.no_grad():
                    whole = self._shared(dtype, "cpu").items()
                    few = {key: value[:count] for key, value in whole if key.startswith("validation_")}
                    self._losses(rows, few, "validation_", None)
            except Exception as error:
                raise ValueError(
                    f"the loss of the module on {count} examples of validation fails: {_first_line(error)}"
                ) from error
        after = zip(self._constants(dtype), before, strict=True)
        changed = [key for (key, value), old in after if not torch.equal(old, value)]
        if changed:
            raise ValueError(f"the module writes to its buffer {changed[0]!r} when called, which runs cannot share")

    def _constants(self, dtype: torch.dtype) -> list[tuple[str, Tensor]]:
        """Buffers of the module, and what it is called with in their place: a module may write to either."""
        called = self._converted("fixed", self._fixed, dtype, "cpu")
        own = list(self._module.named_buffers())
        return [*own, *((key, called[key]) for key, _ in own)]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_kept": {}}  # converted copies, made again where they are needed

    # -- parameters ----------------------------------------------------------------------------------------------------

    @property
    def module(self) -> nn.Module:
        """The module as it is trained: batch normalization and dropout as the head of this page says."""
        return self._module

    @property
    def parameter_names(self) -> list[str]:
        """Names of the trained parameters, in the order in which they lie in a vector."""
        return list(self._shapes)

    def unflatten(self, vector: Tensor) -> dict[str, Tensor]:
        """The parameters by name, views of ``vector`` ``(..., P)``."""
        parts = vector.split(self._sizes, dim=-1)
        named = zip(self._shapes.items(), parts, strict=True)
        return {key: part.reshape((*vector.shape[:-1], *shape)) for (key, shape), part in named}

    def flatten(self, module: nn.Module) -> Tensor:
        """The vector ``(P,)`` of a module of the same kind."""
        found = dict(module.named_parameters())
        return torch.cat([found[key].detach().reshape(-1) for key in self._shapes])

    @cached_property
    @torch.inference_mode(False)
    def _first_start(self) -> Tensor:
        return self.flatten(self._given).to("cpu", torch.float64)

    @torch.inference_mode(False)
    def _initial(self, seed: int) -> Tensor:
        """A fresh initialisation ``(P,)`` in float64; torch's own generator is as before afterwards."""
        module = copy.deepcopy(self._given)
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            torch.manual_seed(seed)
            if callable(self._start):
                self._start(module)
            else:
                for part in module.modules():
                    reset = getattr(part, "reset_parameters", None) or getattr(part, "_reset_parameters", None)
                    if callable(reset):
                        reset()
        return self.flatten(module).to("cpu", torch.float64)

    # -- instances -----------------------------------------------------------------------------------------------------

    def sample(self, generator: Streams, count: int, split: str) -> Instance:
        seeds = generator.integers(1 << 53).tolist()
        rows = [self._first_start] * count if self._start == "keep" else [self._initial(seed) for seed in seeds]
        start = torch.stack(rows).to(generator.device)
        own = {} if self._batch_size is None else {"order_key": generator.bits()}
        return Instance(start, own, self._shared(torch.float64, generator.device, split))

    def place(self, drawn: Instance, split: str, dtype: torch.dtype, device: torch.device | str) -> Instance:
        rows = replace(drawn, shared={}).to(dtype, device)
        return replace(rows, shared=self._shared(dtype, device, split))

    @torch.inference_mode(False)  # kept, and needed for gradients later
    def _converted(self, what: str, values: Mapping[str, Tensor], dtype: torch.dtype, device: Any) -> dict[str, Tensor]:
        """Tensors in the precision and on the device of the runs, the same objects whenever asked."""
        key = (what, dtype, torch.device(device))
        if key not in self._kept:
            self._kept[key] = {
                name: value.to(device=device, dtype=dtype if value.is_floating_point() else None)
                for name, value in values.items()
            }
        return self._kept[key]

    def data_of(self, split: str) -> tuple[Data, Data | None]:
        """Training and validation examples of a split; here those that were given, for all splits alike.

        A family of problems whose splits have data of their own overrides it, with as many examples as ``data`` has.
        """
        return self._given_data

    @torch.inference_mode(False)  # kept, and needed for gradients later
    def _columns_of(self, split: str) -> dict[str, Tensor]:
        if ("columns", split) not in self._kept:
            training, validation = self.data_of(split)
            columns = {} if validation is None else _columns("validation", validation)
            named = {f"validation_{name}": value for name, value in columns.items()}
            self._kept["columns", split] = {**_columns("data", training), **named}
        found: dict[str, Tensor] = self._kept["columns", split]
        return found

    def _shared(self, dtype: torch.dtype, device: Any, split: str | None = None) -> dict[str, Tensor]:
        if split is None or type(self).data_of is ModuleProblem.data_of:
            validation = {f"validation_{key}": value for key, value in (self._validation or {}).items()}
            return self._converted("data", {**self._data, **validation}, dtype, device)
        return self._converted(f"data/{split}", self._columns_of(split), dtype, device)

    @property
    def batch_size(self) -> int | None:
        return self._batch_size

    def num_examples(self, instance: Instance) -> int:
        return len(self._data["targets"])

    # -- loss ----------------------------------------------------------------------------------------------------------

    def loss(self, params: Tensor, instance: Instance, batch: Batch = None) -> Tensor:
        return self._losses(params, instance.shared, "", batch)

    def outputs(self, params: Tensor, inputs: Any) -> Any:
        """What the module makes of ``inputs``, a tensor ``(n, ...)`` or a tuple of them, for every row of ``params``.

        Tensors have the runs as their leading axis. Where the module is called once per run and returns no tensor, it is a
        list.
        """
        given = inputs if isinstance(inputs, tuple) else (inputs,)
        fixed = self._converted("fixed", self._fixed, params.dtype, params.device)
        if self.vectorized:
            return vmap(lambda row: self._call(row, fixed, given))(params)
        found = [self._call(row, fixed, given) for row in params]
        return torch.stack(found) if all(isinstance(entry, Tensor) for entry in found) else found

    def _call(self, row: Tensor, fixed: Mapping[str, Tensor], inputs: Sequence[Tensor]) -> Any:
        with plain_attention():
            return functional_call(self._module, {**fixed, **self.unflatten(row)}, tuple(inputs))

    def _examples(self, data: Mapping[str, Tensor], prefix: str, batch: Batch, count: int) -> list[Tensor]:
        """Inputs, then targets, with a leading axis of ``count`` runs."""
        keys = [f"{prefix}{key}" for key in self._data]
        if batch is None:  # expanded: otherwise the runs would become a dimension of matrix products
            return [data[key].expand(count, *data[key].shape) for key in keys]
        return [data[key][batch] for key in keys]

    def _losses(self, params: Tensor, data: Mapping[str, Tensor], prefix: str, batch: Batch) -> Tensor:
        fixed = self._converted("fixed", self._fixed, params.dtype, params.device)

        def one(row: Tensor, *examples: Tensor) -> Tensor:
            return self._loss(self._call(row, fixed, examples[:-1]), examples[-1])

        examples = self._examples(data, prefix, batch, len(params))
        if self.vectorized:
            return vmap(one)(params, *examples)
        return torch.stack([one(*row) for row in zip(params, *examples, strict=True)])

    def evaluate(self, params: Tensor, instance: Instance) -> dict[str, Tensor]:
        """The loss on all training examples, the loss on the validation set, and for class labels the accuracy there."""
        found: dict[str, list[Tensor]] = {}
        rows_at_once = max(1, _EVALUATION_ELEMENTS // max(value.numel() for value in instance.shared.values()))
        with torch.no_grad():
            for part in params.split(rows_at_once):
                found.setdefault("loss", []).append(self._losses(part, instance.shared, "", None))
                prefix = "validation_"
                if f"{prefix}targets" not in instance.shared:
                    continue
                found.setdefault("validation_loss", []).append(self._losses(part, instance.shared, prefix, None))
                *inputs, targets = self._examples(instance.shared, prefix, None, 1)
                if not targets.is_floating_point():
                    outputs = self.outputs(part, tuple(entry[0] for entry in inputs))
                    if isinstance(outputs, Tensor) and outputs.ndim == targets.ndim + 1:
                        right = (outputs.argmax(dim=2) == targets).to(params.dtype)
                        found.setdefault("validation_accuracy", []).append(right.flatten(1).mean(1))
        return {key: torch.cat(parts) for key, parts in found.items()}

    def gradient_flops(self, instance: Instance, batch_size: int | None = None) -> float:
        """Floating-point operations of one loss and its gradient, as `torch.utils.flop_counter` counts them; where it knows
        none of the module's operations, six for every parameter."""
        count = self.num_examples(instance) if batch_size is None else batch_size
        if ("flops", count) not in self._kept:
            self._kept["flops", count] = self._counted(count)
        flops: float = self._kept["flops", count]
        return flops

    @torch.inference_mode(False)
    def _counted(self, count: int) -> float:
        data = {key: value[:count] for key, value in self._shared(self._dtype, "cpu").items() if key in self._data}
        fixed = self._converted("fixed", self._fixed, self._dtype, "cpu")
        row = self._first_start.to(self._dtype).requires_grad_(True)
        *inputs, targets = data.values()
        return counted_flops(lambda: self._loss(self._call(row, fixed, inputs), targets), sum(self._sizes))

    # -- symmetries ----------------------------------------------------------------------------------------------------

    @cached_property
    @torch.inference_mode(False)
    def found(self) -> Found:
        """What `find_symmetries` found of the module as it is trained, tried on the first examples."""
        inputs = [value[:3] for key, value in self._data.items() if key != "targets"]
        return find_symmetries(self._module, tuple(inputs), modes=("eval",))

    @property
    def symmetries(self) -> Mapping[str, Symmetry]:
        """Those of `found`: ``"scaling"``, ``"general_linear"`` and ``"permutation"``, as far as the module has them."""
        return self.found.symmetries

    def searches_for(self, symmetry: str, split: str = "train") -> tuple[Any, ...]:
        return CLOSED_FORM_MENU if self.symmetries[symmetry].acts_on_pairs else ("random",)

    def defaults(self, split: str = "train") -> Defaults:
        first = next(iter(self.symmetries), None)
        searches = () if first is None else self.searches_for(first, split)
        return Defaults(learning_rate=self._rate, budget=self._budget, searches=searches, dtype=self._dtype)


def counted_flops(loss: Callable[[], Tensor], parameters: int) -> float:
    """Floating-point operations of a loss and its gradient, at least six for each of its parameters."""
    with torch.enable_grad(), plain_attention(), FlopCounterMode(display=False) as counter:
        loss().backward()
    return max(float(counter.get_total_flops()), 6.0 * parameters)


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0].rstrip(".") + "."


def _columns(name: str, data: Any) -> dict[str, Tensor]:
    """Inputs and targets by name; raises ValueError where they are no tensors of one length."""
    allowed = "(inputs, targets): tensors (N, ...) with one entry per example, inputs also a tuple of them"
    if not isinstance(data, tuple | list) or len(data) != 2:
        refuse(name, allowed, data)
    inputs, targets = data
    inputs = tuple(inputs) if isinstance(inputs, tuple | list) else (inputs,)
    if not inputs or not all(isinstance(entry, Tensor) and entry.ndim > 0 for entry in (*inputs, targets)):
        refuse(name, allowed, data)
    if len({len(entry) for entry in (*inputs, targets)}) != 1 or len(targets) == 0:
        shapes = [tuple(entry.shape) for entry in (*inputs, targets)]
        raise ValueError(f"{name} must have as many targets as inputs, at least one, got the shapes {shapes}")
    columns = {f"inputs_{index}": entry.detach() for index, entry in enumerate(inputs)}
    return {**columns, "targets": targets.detach()}
