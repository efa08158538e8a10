"""A network in training: a step of it, all that a step changes, and the processes that share it."""

from __future__ import annotations

import copy
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn

from denoisekit.engine.device import resolve_device
from denoisekit.errors import UsageError
from denoisekit.learn.checkpoint import State, Tensors, damaged_state
from denoisekit.learn.crops import Pair
from denoisekit.methods import Batch, MethodInfo, Stage, TrainableMethod

_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True, slots=True)
class ProcessGroup:
    """The processes of a run, seen from one of them. Alone, nothing here costs anything.

    Attributes
    ----------
    rank : int
        Which one this is; the first speaks, validates and writes.
    size : int
        How many there are.
    device : torch.device
        Of this one.
    """

    rank: int
    size: int
    device: torch.device

    @property
    def first(self) -> bool:
        """Whether this process speaks and writes."""
        return self.rank == 0

    def share(self, batch: int) -> range:
        """Return the samples of a batch that are this process's.

        Raises
        ------
        UsageError
            The batch cannot be shared evenly.
        """
        if batch % self.size:
            raise UsageError(
                f"a batch of {batch} cannot be shared evenly by {self.size} processes",
                f"give --batch {-(-batch // self.size) * self.size}",
            )
        part = batch // self.size
        return range(self.rank * part, (self.rank + 1) * part)

    def mean(self, value: Tensor) -> float:
        """Return the mean over the processes; not a number if it is not one anywhere."""
        if self.size > 1:
            dist.all_reduce(value)
            value /= self.size
        return float(value)

    def agree(self, value: float) -> float:
        """Return the first process's value to all."""
        if self.size == 1:
            return value
        told = torch.tensor([value], dtype=torch.float64, device=self.device)
        dist.broadcast(told, 0)
        return float(told.item())

    def wait(self) -> None:
        """Wait until all are here: what the first has written can be read."""
        if self.size > 1:
            dist.barrier()


@contextmanager
def process_group(device: str) -> Iterator[ProcessGroup]:
    """Join the processes that ``torchrun`` started, or work alone.

    Parameters
    ----------
    device : str
        As `denoisekit.engine.device.resolve_device` takes it; with several processes on GPUs
        each takes its own.
    """
    size, place = int(os.environ.get("WORLD_SIZE", "1")), resolve_device(device)
    if size == 1:
        yield ProcessGroup(0, 1, place)
        return
    if place.type == "cuda":
        place = resolve_device(f"cuda:{os.environ.get('LOCAL_RANK', '0')}")
        torch.cuda.set_device(place)
    dist.init_process_group("nccl" if place.type == "cuda" else "gloo")
    try:
        yield ProcessGroup(dist.get_rank(), size, place)
    finally:
        dist.destroy_process_group()


class _LossOf(nn.Module):
    """A stage's loss as a module, so that what shares gradients can wrap it."""

    def __init__(self, net: nn.Module, stage: Stage) -> None:
        super().__init__()
        self.net, self._stage = net, stage

    def forward(self, batch: Batch) -> Tensor:
        return self._stage.loss(self.net, batch)


class Trainee:
    """A network, its optimiser and its moving average.

    Parameters
    ----------
    method : MethodInfo
        Whose network.
    stage : Stage
        How it is trained.
    group : ProcessGroup
        The processes that share the batch.
    seed : sequence of int
        Of all that is drawn: the run's and the stage's.
    precision : str
        Of forward and backward.
    clip : float
        Largest norm of the gradient; 0: any.

    Attributes
    ----------
    net : torch.nn.Module
        The network.
    teacher : torch.nn.Module or None
        The network of the stage before, where that is another one.
    """

    def __init__(
        self,
        method: MethodInfo,
        stage: Stage,
        group: ProcessGroup,
        seed: Sequence[int] = (0, 0),
        precision: str = "fp32",
        clip: float = 0.0,
    ) -> None:
        self.method, self.stage, self.group = method, stage, group
        self._seed, self._clip, self._precision = tuple(seed), clip, precision
        self.net = new_network(method, stage.config, self._number(0)).to(group.device).train()
        self.teacher: nn.Module | None = None
        self._loss: nn.Module = _LossOf(self.net, stage)
        if group.size > 1:
            from torch.nn.parallel import DistributedDataParallel

            # A loss may leave parameters out; it always leaves out the same.
            self._loss = DistributedDataParallel(self._loss, static_graph=True)
        self._parameters = [p for p in self.net.parameters() if p.requires_grad]
        self._adam = torch.optim.Adam(self._parameters, stage.rate, stage.betas)
        self._scaler = torch.amp.GradScaler(group.device.type, enabled=precision == "fp16")
        self._generator = torch.Generator(group.device)
        self._average = _copied(self.net.state_dict()) if stage.average else {}

    def load(self, weights: Mapping[str, Tensor]) -> None:
        """Start from these weights."""
        self.net.load_state_dict(dict(weights), strict=True)
        self._average = _copied(self.net.state_dict()) if self.stage.average else {}

    def step(self, step: int, pair: Pair, progress: float) -> Tensor:
        """Take a step and return the loss before it, on the device.

        Parameters
        ----------
        step : int
            Which one.
        pair : Pair
            The batch.
        progress : float
            How far the training is, 0 <= progress < 1: the rate follows it.
        """
        self._seed_all(step)
        for group in self._adam.param_groups:
            group["lr"] = self.stage.rate * self.stage.schedule(progress)
        self._adam.zero_grad(set_to_none=True)
        with self.computing():
            loss: Tensor = self._loss(self.batch(pair))
        self._scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        if self._clip:
            self._scaler.unscale_(self._adam)
            nn.utils.clip_grad_norm_(self._parameters, self._clip)
        self._scaler.step(self._adam)
        self._scaler.update()
        if self._average:
            # Faster while it has seen little.
            decay = min(self.stage.average, (1 + step) / (10 + step))
            now = self.net.state_dict()
            numbers = [key for key, value in now.items() if value.is_floating_point()]
            torch._foreach_lerp_(
                [self._average[key] for key in numbers], [now[key] for key in numbers], 1 - decay
            )
            for key in now.keys() - set(numbers):
                self._average[key].copy_(now[key])
        return loss.detach()

    def batch(self, pair: Pair) -> Batch:
        """Return a batch on the device, in the method's scale."""
        tensors = []
        for array in pair:
            tensor = None if array is None else torch.from_numpy(array)
            if tensor is not None:
                tensor = tensor.pin_memory() if self.group.device.type == "cuda" else tensor
                tensor = tensor.to(self.group.device, non_blocking=True)
                tensor = tensor if self.method.scale == 1 else tensor * self.method.scale
            tensors.append(tensor)
        noisy, clean = tensors
        assert noisy is not None
        return Batch(noisy, self._generator, clean, self.teacher, self.method.scale)

    def computing(self) -> AbstractContextManager[Any]:
        """Return the context of forward passes: mixed precision, where asked for."""
        if self._precision == "fp32":
            return nullcontext()
        return torch.autocast(self.group.device.type, _DTYPES[self._precision])

    def mean_loss(self, pairs: Sequence[Pair]) -> float:
        """Return the mean loss of the weights worth keeping, for batches and draws that stay."""
        net = copy.deepcopy(self.net).eval()
        net.load_state_dict(self.weights())
        total = 0.0
        with torch.no_grad(), self.computing():
            for index, pair in enumerate(pairs):
                self._seed_all(-1 - index)
                total += float(self.stage.loss(net, self.batch(pair)))
        return total / len(pairs)

    def weights(self) -> Tensors:
        """Return the weights worth keeping: their moving average, where the stage has one."""
        return self._average or dict(self.net.state_dict())

    def finite(self) -> bool:
        """Return whether all weights are numbers."""
        return all(bool(torch.isfinite(value).all()) for value in self.net.state_dict().values())

    def parameters(self) -> int:
        """Return how many numbers are learned."""
        return sum(parameter.numel() for parameter in self._parameters)

    def put(self, state: State) -> None:
        """Write into a state all that a step changes."""
        state.net, state.average = dict(self.net.state_dict()), self._average
        state.adam, state.scaler = self._adam.state_dict(), self._scaler.state_dict()

    def take(self, state: State) -> None:
        """Go on from a state.

        Raises
        ------
        InputError
            It is of another network, or damaged.
        """
        device, own = self.group.device, self._adam.state_dict()["param_groups"]
        try:
            self.net.load_state_dict(state.net, strict=True)
            self._average = {
                key: value.to(device).reshape(state.net[key].shape)
                for key, value in state.average.items()
            }
            if self._average.keys() != (state.net.keys() if self.stage.average else set()):
                raise ValueError("not the average of this network")
            self._adam.load_state_dict(state.adam)
            self._scaler.load_state_dict(state.scaler)
            # The optimiser takes whatever it is given.
            for group, usual in zip(self._adam.param_groups, own, strict=True):
                if any(type(group[key]) is not type(usual[key]) for key in usual):
                    raise ValueError("not the optimiser's settings")
            for parameter, kept in self._adam.state.items():
                for value in kept.values():
                    if not (value.shape == parameter.shape if value.dim() else value >= 0):
                        raise ValueError("not the optimiser's of this network")
        except (RuntimeError, LookupError, ValueError, TypeError, AttributeError) as error:
            raise damaged_state(str(error).splitlines()[0]) from error

    def _seed_all(self, step: int) -> None:
        # Also torch's own generator, for networks that draw by themselves (dropout).
        number = self._number(1, step % 2**32)
        self._generator.manual_seed(number)
        torch.manual_seed(number)

    def _number(self, *words: int) -> int:
        """Return a seed for these words, of this process."""
        rank = self.group.rank if words[0] else 0  # all start with the same weights
        sequence = np.random.SeedSequence([*self._seed, *words, rank])
        return int(sequence.generate_state(1, np.uint64)[0] >> np.uint64(1))


def new_network(method: MethodInfo, config: Mapping[str, Any], seed: int) -> nn.Module:
    """Return a network as training starts with it; torch's generator is left alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        loaded = cast("TrainableMethod", method.build(config, method.choose()))
    if method.initialise is not None:
        method.initialise(loaded.net, config)
    return loaded.net


def frozen(method: MethodInfo, config: Mapping[str, Any], weights: Mapping[str, Tensor]) -> Any:
    """Return a network with these weights that learns nothing more."""
    net = new_network(method, config, 0)
    net.load_state_dict(dict(weights), strict=True)
    return net.eval().requires_grad_(False)


def _copied(state: Mapping[str, Tensor]) -> Tensors:
    return {key: value.detach().clone() for key, value in state.items()}
