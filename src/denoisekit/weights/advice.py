"""What to tell people whose weights are not here, or not what they took them for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from denoisekit.errors import UsageError, WeightsError
from denoisekit.methods.base import Config, MethodInfo
from denoisekit.weights.manifest import UrlSource, WeightEntry, find_entry

Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True, slots=True)
class Guess:
    """A network that a checkpoint is of, by its keys and shapes."""

    method: MethodInfo
    config: Config

    def fits(self, entry: WeightEntry) -> bool:
        """Return whether these weights have the same keys and shapes."""
        return entry.method == self.method.id and self.same(entry.config)

    def same(self, config: Config) -> bool:
        """Return whether the method's network of another configuration has them too."""
        if dict(config) == dict(self.config):
            return True
        settings = self.method.choose()
        try:
            one, other = (self.method.build(c, settings).shapes() for c in (config, self.config))
        except Exception:  # noqa: BLE001 - a configuration that this version does not know
            return False
        return dict(one) == dict(other)


class Misfit(WeightsError):
    """Weights whose keys or shapes are not those of the network.

    Attributes
    ----------
    shapes : mapping
        Keys and shapes of the file.
    wanted : Guess
        The network that they should have been of.
    """

    def __init__(self, message: str, shapes: Shapes, wanted: Guess) -> None:
        hint = "it is a checkpoint of another network, or of another variant of this one"
        super().__init__(message, hint)
        self.shapes, self.wanted = shapes, wanted


def explained(
    misfit: Misfit, methods: Iterable[MethodInfo], entries: Sequence[WeightEntry] | None = None
) -> WeightsError:
    """Return the error with what the weights look like instead.

    Parameters
    ----------
    misfit : Misfit
        The error.
    methods : iterable of MethodInfo
        What they may be of.
    entries : sequence of WeightEntry, optional
        Where a file is imported: what it may be imported as.
    """
    wanted = misfit.wanted
    for guess in guesses(misfit.shapes, methods):
        looks = guess.method.id
        if looks == wanted.method.id:
            if guess.same(wanted.config):
                continue
            looks += f" ({', '.join(f'{key} {value}' for key, value in guess.config.items())})"
        hint = f"try --method {guess.method.id}"
        if entries is not None:
            offered = (entry for entry in entries if not entry.embedded)
            ids = [entry.id for entry in offered if guess.fits(entry)]
            itself = f"use the file itself: --method {guess.method.id} --weights FILE"
            hint = f"try --as {' or '.join(ids)}" if ids else itself
        message = f"{misfit.message}; it looks like a checkpoint of {looks}"
        return WeightsError(message, hint)
    return misfit


def guesses(shapes: Shapes, methods: Iterable[MethodInfo]) -> tuple[Guess, ...]:
    """Return the networks that know an official checkpoint with these keys and shapes."""
    found = ((method, recognised(shapes, method)) for method in methods)
    return tuple(Guess(method, config) for method, config in found if config is not None)


def recognised(shapes: Shapes, method: MethodInfo) -> Config | None:
    """Return what the method recognises; a file that it stumbles over is none of its own."""
    try:
        return method.recognise(shapes)
    except Exception:  # noqa: BLE001 - whatever a stranger's file holds, the error is ours
        return None


def unpublished(method: MethodInfo) -> WeightsError:
    """Return the error for a method that has no weights to be had."""
    return WeightsError(
        f"no weights of the method {method.id} are published",
        method.without_weights or "give a file of your own: --weights FILE",
    )


def find_weights(
    name: str, entries: Sequence[WeightEntry], methods: Sequence[MethodInfo]
) -> WeightEntry:
    """Return the entry with this id, where `find_entry` knows no methods.

    Raises
    ------
    WeightsError
        It would be of a method of which none are published.
    UsageError
        There is no such id.
    """
    wanted = name.split(".")[0]
    method = next((m for m in methods if m.id == wanted), None)
    ids = [entry.id for entry in entries if entry.method == wanted]
    if method and not ids:
        raise unpublished(method)
    if method and name == wanted:
        raise UsageError(
            f"'{name}' is a method; weights have ids of their own",
            f"the weights of {name}: {', '.join(ids)}",
        )
    return find_entry(name, entries)


def ways(entry: WeightEntry) -> list[str]:
    """Return how these weights can be had, best way first."""
    found = []
    if entry.sources:
        found.append(f"with a network: denoisekit weights pull {entry.id}")
    origin = next((s.url for s in entry.sources if isinstance(s, UrlSource)), None)
    fetched = f"with the file from {origin}" if origin else "with the published file"
    if entry.page:
        fetched = f"open {entry.page} in a browser, download the file, then"
    found.append(f"{fetched}: denoisekit weights import FILE --as {entry.id}")
    return found


def absent(entry: WeightEntry, reason: str) -> WeightsError:
    """Return the error for weights that are not here; its hint says how to get them."""
    return WeightsError(
        f"the weights {entry.id} are not available: {reason}", "; or ".join(ways(entry))
    )


def only_by_hand(entry: WeightEntry) -> WeightsError:
    """Return the error for weights that no program can fetch."""
    return absent(entry, "they can only be downloaded by hand, in a browser")
