"""What a denoising method is: described as data, loaded as an object.

`MethodInfo` needs no torch: it feeds ``denoisekit methods``, the docs and
``--help``. `LoadedMethod` is the loaded thing, bound to its weights. A method that
must see the whole image before it denoises a part of it is a `StudyingMethod`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Protocol

from denoisekit.errors import UsageError, did_you_mean
from denoisekit.limits import Limits

if TYPE_CHECKING:
    import torch

    from denoisekit.draws import Draws
    from denoisekit.methods.recipe import Stage

    State = Mapping[str, torch.Tensor]

Config = Mapping[str, Any]
"""What tells one network of a method from another; stored beside the weights as JSON."""

Settings = Mapping[str, float]
"""Values of a method's settings, all of them, by name. Whole numbers are ints, switches bools."""


@dataclass(frozen=True, slots=True)
class Traits:
    """Facts of one network of a method, as its settings make it run.

    Attributes
    ----------
    limits : Limits
        What tiling needs to know.
    flop_per_pixel : float
        Floating-point operations an output pixel costs (2 x multiply-add).
    bytes_per_pixel : mapping of str to float
        Peak working memory of a network call per input pixel and precision, in
        bytes, measured; a test checks it.
    flop_per_pair : float
        Operations that an output pixel costs more for every pixel that the call sees:
        the price of attention.
    channels : int
        Channels the network takes; the kit fits other images to it.
    studies : bool
        Whether the method is a `StudyingMethod`: an image of several tiles is shown to
        it before its tiles are denoised.
    halo_cost : float
        What a pixel of a tile's halo costs, of what one of its core does. Below 1: `denoise`
        takes ``core``, the part that is kept, and returns that alone.
    scripted : bool
        Whether it can be exported as TorchScript alone, not as a graph such as ONNX.
    """

    limits: Limits
    flop_per_pixel: float
    bytes_per_pixel: Mapping[str, float]
    flop_per_pair: float = 0.0
    channels: int = 3
    studies: bool = False
    halo_cost: float = 1.0
    scripted: bool = False

    def flop(self, pixels: float) -> float:
        """Return the operations an output pixel costs in a call of so many pixels."""
        return self.flop_per_pixel + self.flop_per_pair * pixels


_SWITCH = dict.fromkeys(("on", "true", "yes", "1"), True) | dict.fromkeys(
    ("off", "false", "no", "0"), False
)


@dataclass(frozen=True, slots=True)
class Setting:
    """A knob that one method has and others do not; ``--set NAME=VALUE``.

    Attributes
    ----------
    name : str
        As in the method's paper, in words.
    default : bool, int or float
        Its type is the setting's.
    help : str
        One line.
    minimum, maximum : float
        Both allowed.
    """

    name: str
    default: float
    help: str
    minimum: float = 0
    maximum: float = 1

    def parse(self, value: object) -> float:
        """Return the value of ``--set``, or of a call from Python.

        Raises
        ------
        UsageError
            Not of the setting's type, or out of bounds.
        """
        kind = type(self.default)
        text = str(value).strip().lower()
        try:
            parsed = _SWITCH[text] if kind is bool else kind(text)
        except (KeyError, ValueError):
            wanted = {bool: "on or off", int: "a whole number"}.get(kind, "a number")
            raise UsageError(f"{self.name}={value} is not {wanted}", self.help) from None
        if not self.minimum <= parsed <= self.maximum:
            bounds = f"{self.minimum:g} and {self.maximum:g}"
            raise UsageError(f"{self.name}={value} is not between {bounds}", self.help)
        return parsed


@dataclass(frozen=True, slots=True)
class MethodInfo:
    """A method described: everything about it that can be said before torch is imported.

    Attributes
    ----------
    id : str
        The name used everywhere: CLI, manifest, docs.
    title, summary, best_for, citation : str
        One line each.
    scale : float
        Value of white that the networks expect (1 or 255).
    config : mapping
        Configuration of the published network, the one that ``methods`` tells about.
    default_weights : tuple of str
        Ids of the weights used when none are asked for, the best first; `denoise` takes the
        first that can be had. Empty: there are none.
    traits : callable
        ``traits(config, settings)`` gives the facts of the network of that configuration.
    build : callable
        ``build(config, settings)`` makes that network, weights not loaded.
    infer_config : callable
        ``infer_config({key: shape})`` returns the configuration of the official
        checkpoint with these keys, or None.
    map_key : callable
        ``map_key(key, config)`` gives our key for a key of the official checkpoint; an
        empty one for what we compute ourselves.
    settings : tuple of Setting
        Its own knobs.
    without_weights : str
        What to do where `default_weights` is empty; one line.
    recipe : callable or None
        ``recipe(config, paired)`` returns the stages of training the network of a
        configuration, on pairs of noisy and clean pictures or on noisy ones alone; none
        where there is no such way. With a recipe, `build` returns a `TrainableMethod`.
    initialise : callable or None
        ``initialise(net, config)`` changes the random weights that training of the network of a
        configuration starts with.
    """

    id: str
    title: str
    summary: str
    best_for: str
    citation: str
    scale: float
    config: Config
    default_weights: tuple[str, ...]
    traits: Callable[[Config, Settings], Traits]
    build: Callable[[Config, Settings], LoadedMethod]
    infer_config: Callable[[Mapping[str, tuple[int, ...]]], Config | None]
    map_key: Callable[[str, Config], str]
    settings: tuple[Setting, ...] = ()
    without_weights: str = ""
    recipe: Callable[[Config, bool], tuple[Stage, ...]] | None = None
    initialise: Callable[[Any, Config], None] | None = None

    def choose(self, given: Mapping[str, object] = MappingProxyType({})) -> Settings:
        """Return all settings: those given, and the defaults of the others.

        Raises
        ------
        UsageError
            No such setting, or no such value.
        """
        known = {setting.name: setting for setting in self.settings}
        for name in given:
            if name not in known:
                hint = did_you_mean(name, list(known)) if known else f"{self.id} has no settings"
                raise UsageError(f"the method {self.id} has no setting '{name}'", hint)
        return {
            name: setting.parse(given[name]) if name in given else setting.default
            for name, setting in known.items()
        }


def torch_dtype(precision: str) -> torch.dtype:
    """Return torch's type for ``fp32``, ``bf16`` or ``fp16``."""
    import torch

    return {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]


class LoadedMethod(Protocol):
    """A network ready to run. Every method's `build` returns one."""

    def load(self, state: State) -> None:
        """Take the weights, strictly: every key, every shape."""
        ...

    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """Return the keys and shapes that `load` expects."""
        ...

    def prepare(self, device: torch.device, precision: str) -> None:
        """Move to a device and precision (``fp32``, ``bf16``, ``fp16``), ready to run fast.

        The weights are loaded before, and once; it is called once.
        """
        ...

    def denoise(
        self,
        noisy: torch.Tensor,
        *,
        draws: Draws,
        context: Any = None,
    ) -> torch.Tensor:
        """Denoise. Called by several threads at once, so it must not change the method.

        Parameters
        ----------
        noisy : torch.Tensor
            (1, C, H, W) float32 in the method's own scale, sizes already legal.
        draws : Draws
            Source of all randomness: it knows the seed and where in the image this is.
        context : object, optional
            What `StudyingMethod.study` returned for the image; None where ``noisy`` is
            all of it.

        Returns
        -------
        torch.Tensor
            Same shape, float32, not clamped. The input is left as it was.
        """
        ...


class NetworkMethod:
    """The weights of a method's network: what the methods of this package share.

    Parameters
    ----------
    net : torch.nn.Module
        The network in its plain form.
    """

    def __init__(self, net: torch.nn.Module) -> None:
        self.net: Any = net.eval()

    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """Return the keys and shapes that `load` expects."""
        return {key: tuple(value.shape) for key, value in self.net.state_dict().items()}

    def load(self, state: State) -> None:
        """Take the weights, strictly: every key, every shape."""
        self.net.load_state_dict(dict(state), strict=True)


class TrainableMethod(LoadedMethod, Protocol):
    """A method whose network can be trained."""

    @property
    def net(self) -> torch.nn.Module:
        """The network in its plain form; its ``state_dict`` is what `load` takes."""
        ...


class CroppingMethod(LoadedMethod, Protocol):
    """A method that leaves out what is not kept of a tile; its `Traits.halo_cost` is below 1."""

    def denoise(
        self,
        noisy: torch.Tensor,
        *,
        draws: Draws,
        context: Any = None,
        core: tuple[int, int, int, int] | None = None,
    ) -> torch.Tensor:
        """Denoise, and return the core alone: top, left, bottom and right, exclusive."""
        ...


class StudyingMethod(LoadedMethod, Protocol):
    """A method whose result at a pixel depends on the whole image, by way of a summary.

    With the summary given it is local: tiles are as exact as the summary.
    """

    def study(self, parts: Sequence[torch.Tensor], *, seed: int) -> Any:
        """Sum up an image that is too large for one call.

        Parameters
        ----------
        parts : sequence of torch.Tensor
            (1, C, h, w) each, float32 in the method's own scale, sizes legal and alike:
            boxes spread evenly over the image, as much of it as fits in memory.
        seed : int
            Of what is drawn for the image as a whole.

        Returns
        -------
        object
            Handed back as ``context`` with every tile.
        """
        ...
