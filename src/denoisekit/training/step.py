"""One network in training: a step of it, and all that a step changes."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from denoisekit.methods import Batch, MethodInfo, Stage, TrainableMethod
from denoisekit.training.config import Sizes
from denoisekit.training.data import Pair
from denoisekit.training.distributed import Crew
from denoisekit.training.state import State, Tensors, damaged_state

_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


class LossOf(nn.Module):
    """A stage's loss as a module, so that what wraps modules can wrap it."""

    def __init__(self, net: nn.Module, stage: Stage) -> None:
        super().__init__()
        self.net = net
        self._stage = stage

    def forward(self, batch: Batch) -> Tensor:
        """Return the loss of a batch."""
        return self._stage.loss(self.net, batch)


class Trainee:
    """A network, its optimiser and its moving average.

    Parameters
    ----------
    method : MethodInfo
        Whose network.
    stage : Stage
        How it is trained.
    sizes : Sizes
        Steps, batch, patch and rate.
    crew : Crew
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
        sizes: Sizes,
        crew: Crew,
        seed: Sequence[int] = (0, 0),
        precision: str = "fp32",
        clip: float = 0.0,
    ) -> None:
        self.method, self.stage, self.sizes, self.crew = method, stage, sizes, crew
        self._seed, self._clip, self._precision = tuple(seed), clip, precision
        self.net = fresh(method, stage.config, self._number(0)).to(crew.device).train()
        self.teacher: nn.Module | None = None
        self._loss = crew.wrap(LossOf(self.net, stage))
        self._parameters = [p for p in self.net.parameters() if p.requires_grad]
        self._adam = torch.optim.Adam(self._parameters, sizes.rate, stage.betas)
        self._scaler = torch.amp.GradScaler(crew.device.type, enabled=precision == "fp16")
        self._generator = torch.Generator(crew.device)
        self._average = _copied(self.net.state_dict()) if stage.average else {}

    def load(self, weights: Mapping[str, Tensor]) -> None:
        """Start from these weights."""
        self.net.load_state_dict(dict(weights), strict=True)
        self._average = _copied(self.net.state_dict()) if self.stage.average else {}

    def rate(self, step: int) -> float:
        """Return the rate of a step."""
        return self._rate(step / self.sizes.steps)

    def step(self, step: int, pair: Pair, progress: float | None = None) -> Tensor:
        """Take a step and return the loss before it, on the device.

        Parameters
        ----------
        step : int
            Which one.
        pair : Pair
            The batch.
        progress : float, optional
            How far the training is, 0 <= progress < 1, where that is not told by the step.
        """
        self._seed_all(step)
        for group in self._adam.param_groups:
            group["lr"] = self.rate(step) if progress is None else self._rate(progress)
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
            self._follow(step)
        return loss.detach()

    def _rate(self, progress: float) -> float:
        return self.sizes.rate * self.stage.schedule(progress)

    def batch(self, pair: Pair) -> Batch:
        """Return a batch on the device, in the method's scale."""
        noisy, clean = (None if array is None else self._to_device(array) for array in pair)
        assert noisy is not None
        return Batch(noisy, self._generator, clean, self.teacher, self.method.scale)

    def computing(self) -> AbstractContextManager[Any]:
        """Return the context of forward passes: mixed precision, where asked for."""
        if self._precision == "fp32":
            return nullcontext()
        return torch.autocast(self.crew.device.type, _DTYPES[self._precision])

    def held_out(self, pairs: Sequence[Pair]) -> float:
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

    def sound(self) -> bool:
        """Return whether all weights are finite."""
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
        device, own = self.crew.device, self._adam.state_dict()["param_groups"]
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
                    fits = value.shape == parameter.shape if value.dim() else value >= 0
                    if not fits:
                        raise ValueError("not the optimiser's of this network")
        except (RuntimeError, LookupError, ValueError, TypeError, AttributeError) as error:
            raise damaged_state(str(error).splitlines()[0]) from error

    def _to_device(self, array: Any) -> Tensor:
        tensor = torch.from_numpy(array)
        if self.crew.device.type == "cuda":
            tensor = tensor.pin_memory()
        tensor = tensor.to(self.crew.device, non_blocking=True)
        return tensor if self.method.scale == 1 else tensor * self.method.scale

    def _follow(self, step: int) -> None:
        """Move the average towards the weights, faster while it has seen little."""
        decay = min(self.stage.average, (1 + step) / (10 + step))
        now = self.net.state_dict()
        numbers = [key for key, value in now.items() if value.is_floating_point()]
        torch._foreach_lerp_(
            [self._average[key] for key in numbers], [now[key] for key in numbers], 1 - decay
        )
        for key in now.keys() - set(numbers):
            self._average[key].copy_(now[key])

    def _seed_all(self, step: int) -> None:
        # Also torch's own generator, for networks that draw by themselves (dropout).
        number = self._number(1, step % 2**32)
        self._generator.manual_seed(number)
        torch.manual_seed(number)

    def _number(self, *words: int) -> int:
        """Return a seed for these words, of this process."""
        rank = self.crew.rank if words[0] else 0  # all begin with the same weights
        sequence = np.random.SeedSequence([*self._seed, *words, rank])
        return int(sequence.generate_state(1, np.uint64)[0] >> np.uint64(1))


def fresh(method: MethodInfo, config: Mapping[str, Any], seed: int) -> nn.Module:
    """Return a network as training begins; torch's generator is left alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        loaded = cast("TrainableMethod", method.build(config, method.choose()))
    if method.initialise is not None:
        method.initialise(loaded.net, config)
    return loaded.net


def frozen(method: MethodInfo, config: Mapping[str, Any], weights: Mapping[str, Tensor]) -> Any:
    """Return a network with these weights that learns nothing more."""
    net = fresh(method, config, 0)
    net.load_state_dict(dict(weights), strict=True)
    return net.eval().requires_grad_(False)


def _copied(state: Mapping[str, Tensor]) -> Tensors:
    return {key: value.detach().clone() for key, value in state.items()}
