"""A model card for the Hugging Face hub, of the folder of a training run."""

from __future__ import annotations

import json
import shlex
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from denoisekit._version import __version__
from denoisekit.errors import InputError, UsageError, printable
from denoisekit.methods import get_method
from denoisekit.weights import file_of, is_hub
from denoisekit.weights.checkpoint import read_header
from denoisekit.weights.download import hash_file

_REPO = "USER/REPO"
_SIZES = {"--batch": "batch", "--patch": "patch", "--lr": "rate"}
_STAGE = ("name", "steps", "batch", "patch", "rate")


def model_card(
    run: Path, *, licence: str = "", repo: str = "", datasets: Sequence[str] = ()
) -> str:
    """Return the README of a repository that holds the weights of a run.

    Parameters
    ----------
    run : Path
        Folder of the run, as ``denoisekit train --out`` made it.
    licence : str
        Of the weights, as the hub names it, such as ``mit`` or ``cc-by-4.0``.
    repo : str
        ``USER/REPO``, for the commands that show how to use it.
    datasets : sequence of str
        Ids of data sets on the hub; default: the names of the folders trained on.

    Returns
    -------
    str
        Markdown that begins with the hub's YAML header.

    Raises
    ------
    InputError
        The folder holds no run, or a file of it is damaged.
    WeightsError
        The run is not over.
    """
    from huggingface_hub import EvalResult, ModelCardData

    if repo and (repo.count("/") != 1 or not all(repo.split("/"))):
        raise UsageError(f"{repo} is no repository of the hub", "write USER/REPO")
    config, log = _read_run(run)
    weights = file_of(run)
    header = read_header(weights) or {}
    method = get_method(str(config["method"]))
    data, stages = config["data"], config["stages"]
    names = [_text(name) for name in _last(log, "data").get("names", [])] or _names(
        data, "pictures"
    )
    figures = [entry for entry in log if entry.get("event") == "validation" and "psnr" in entry]
    title = f"{method.title.split(' (')[0]}, trained on {', '.join(names)}"
    card = ModelCardData(
        license=licence or "unknown",
        library_name="denoisekit",
        pipeline_tag="image-to-image",
        tags=["denoising", "image-restoration", _learning(data)[0], method.id],
        datasets=list(datasets) or names,
        metrics=["psnr"] if figures else None,
        model_name=title if figures else None,
        eval_results=[
            EvalResult(
                task_type="image-to-image",
                task_name="denoising",
                dataset_type="validation",
                dataset_name=_validated_on(data),
                metric_type="psnr",
                metric_value=figures[-1]["psnr"],
            )
        ]
        if figures
        else None,
    )
    place = f"hf://{repo or _REPO}/{weights.name}"
    parts = [
        f"---\n{card.to_yaml()}\n---",
        f"# {title}",
        f"Weights for the method `{method.id}` of denoisekit: {method.summary}. {method.citation}.",
        "## Use",
        f"```sh\npip install denoisekit\ndenoisekit denoise in.png --weights {place}\n```",
        f'```python\nimport denoisekit\n\ndenoiser = denoisekit.load(weights="{place}")\n'
        "denoised = denoiser(noisy)\n```",
        "The first use fetches the file and notes its commit and hash; later ones need no network.",
        "## Training",
        _table(("", ""), _facts(config, log, names)),
        _table(_STAGE, [[stage.get(key, "") for key in _STAGE] for stage in stages]),
        f"```sh\n{_command(config)}\n```",
        "## Figures",
        _figures(log, data),
        "## File",
        _table(
            ("", ""),
            [
                ("file", f"`{weights.name}`, safetensors: numbers alone, no code"),
                ("SHA-256", f"`{hash_file(weights)}`"),
                ("network", f"`{_text(header.get('config', '?'))}`"),
                ("licence", licence or "not stated"),
                ("made with", f"denoisekit {__version__}"),
            ],
        ),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _read_run(run: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return the configuration and the log of a run."""
    path = run / "config.toml"
    try:
        config = tomllib.loads(path.read_text("utf-8"))
        if not (config["method"] and config["data"] and config["stages"][0]):
            raise ValueError("it is empty")
        lines = []
        if (run / "log.jsonl").exists():
            lines = (run / "log.jsonl").read_text("utf-8", errors="replace").splitlines()
    except FileNotFoundError as error:
        raise InputError(f"{run} holds no run", "name the folder given to train --out") from error
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise InputError(f"{path} is damaged: {error}", "name the folder of another run") from error
    log = []
    for line in lines:
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):  # a run that was killed may leave a part of one
            continue
        if isinstance(record, dict):
            log.append(record)
    return config, log


def _last(log: Iterable[Mapping[str, Any]], event: str) -> Mapping[str, Any]:
    """Return the last record of an event; a run that was resumed has several."""
    return ([record for record in log if record.get("event") == event] or [{}])[-1]


def _names(data: Mapping[str, Any], key: str) -> list[str]:
    """Return the names of folders or files without their paths, which are nobody's business."""
    return [_text(Path(str(each)).name) for each in data.get(key, ())]


def _learning(data: Mapping[str, Any]) -> tuple[str, str]:
    """Return how was learned, as a tag and in words."""
    if data.get("simulate"):
        noise = _text(data["simulate"])
        return "supervised", f"clean pictures, on which noise was put: `{noise}`"
    if data.get("clean"):
        return "supervised", "pairs of noisy and clean pictures"
    return "self-supervised", "noisy pictures alone"


def _validated_on(data: Mapping[str, Any]) -> str:
    names = _names(data, "val_noisy")
    return ", ".join(names) if names else "pictures of the training"


def _facts(
    config: Mapping[str, Any], log: list[dict[str, Any]], names: list[str]
) -> list[tuple[str, object]]:
    told, plan, done = (_last(log, event) for event in ("data", "plan", "done"))
    data = ", ".join(names)
    if "pictures" in told:
        data += f": {told['pictures']} pictures, {told.get('megapixels')} megapixels"
    parameters = (plan.get("stages") or [{}])[-1].get("parameters")
    facts: list[tuple[str, object]] = [
        ("data", data),
        ("learned from", _learning(config["data"])[1]),
        ("parameters", f"{parameters:,}" if parameters else ""),
        ("started from", _place(config, "weights")),
        ("teacher", _place(config, "teacher")),
        ("seed", config.get("seed", "")),
        ("precision", config.get("precision", "")),
        ("device", _text(plan.get("device", ""))),
        ("time", f"{done['seconds'] / 60:.1f} minutes" if "seconds" in done else ""),
    ]
    return [fact for fact in facts if fact[1] != ""]


def _place(config: Mapping[str, Any], key: str) -> str:
    """Return the id of weights, or the name of a file of them, without its path."""
    name = str(config.get(key, ""))
    return _text(name if is_hub(name) else Path(name).name)


def _command(config: Mapping[str, Any]) -> str:
    """Return the command that trains the same network on the same data for as many steps."""
    data, stages = config["data"], config["stages"]
    words = ["denoisekit", "train", _text(config["method"]), *_names(data, "pictures")]
    for option, key in (
        ("--clean", "clean"),
        ("--val-noisy", "val_noisy"),
        ("--val-clean", "val_clean"),
    ):
        for name in _names(data, key):
            words += [option, name]
    for option, value in (
        ("--simulate", data.get("simulate")),
        ("--range", data.get("range", "auto") if data.get("range") != "auto" else ""),
        ("--weights", _place(config, "weights")),
        ("--teacher", _place(config, "teacher")),
        ("--steps", sum(stage.get("steps", 0) for stage in stages)),
        *((option, _common(stages, key)) for option, key in _SIZES.items()),
        ("--precision", config.get("precision")),
        ("--seed", config.get("seed")),
    ):
        words += [option, str(value)] if value not in (None, "") else []
    for key, value in config.get("network", {}).items():
        words += ["--config", f"{key}={value if isinstance(value, str) else json.dumps(value)}"]
    return " ".join(shlex.quote(_text(word)) for word in [*words, "--out", "run"])


def _common(stages: Sequence[Mapping[str, Any]], key: str) -> object:
    """Return what all stages have; nothing where they differ, as the recipe says it then."""
    values = {stage.get(key) for stage in stages}
    return values.pop() if len(values) == 1 else None


def _figures(log: list[dict[str, Any]], data: Mapping[str, Any]) -> str:
    """Return the course of the validation: its beginning, its best and its end."""
    validations = [record for record in log if record.get("event") == "validation"]
    if not validations:
        return "Nothing was measured."
    first, *others = [
        record for record in validations if record.get("stage") == validations[-1].get("stage")
    ]
    best = [record for record in others if record.get("best")]
    shown = {id(record): record for record in [first, *best[-1:], *others[-1:]]}.values()
    columns = [key for key in first if key not in {"event", "time", "best", "stage"}]
    rows = [[record.get(key, "") for key in columns] for record in shown]
    unit = "; PSNR in dB" if "psnr" in columns else ""
    text = f"On {_validated_on(data)}{unit}.\n\n{_table(columns, rows)}"
    if _last(log, "done").get("learned") is False:
        text += "\n\n**The run did not learn**: its results are worse than the noisy pictures."
    if not data.get("val_noisy"):
        text += "\n\nPictures that were trained on flatter; others will be worse."
    return text


def _table(columns: Sequence[object], rows: Iterable[Sequence[object]]) -> str:
    head = [[str(column).replace("_", " ") for column in columns], ["---"] * len(columns)]
    return "\n".join(f"| {' | '.join(map(_cell, row))} |" for row in [*head, *rows])


def _cell(value: object) -> str:
    if isinstance(value, float):
        value = f"{value:.5g}"
    return str(value).replace("|", "\\|")


def _text(value: object) -> str:
    """Return what somebody named as one line that Markdown takes for text."""
    return printable(str(value)).replace("`", "'").replace("<", "‹")
