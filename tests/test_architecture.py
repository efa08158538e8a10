"""The arrows between modules point one way, and what must stay light stays light."""

from __future__ import annotations

import ast
import importlib
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from importlib import metadata
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "denoisekit"

# What each part may import of ours: a part (a module or folder directly in the package), or one
# module of it. A part may always import itself and EVERYONE.
MAY_IMPORT: dict[str, set[str]] = {
    "atomic": set(),
    "errors": set(),
    "_version": set(),
    "image": set(),
    "estimate": set(),
    "draws": set(),
    "cuts": set(),
    "geometry": {"cuts", "methods.base"},
    "formats": {"image"},
    "tiling": {"draws", "geometry"},
    "nets": set(),
    "methods": {"nets"},
    "device": {"geometry", "methods"},
    "weights": {"methods", "ranges"},
    "extremes": {"image"},
    "ranges": {"extremes", "image"},
    "masks": set(),
    "signal": {"estimate", "extremes", "image", "masks", "ranges"},
    "view": {"draws", "image", "masks", "ranges", "signal"},
    "options": {"methods", "ranges", "signal"},
    "inference": {"device", "draws", "methods", "tiling"},
    "plane": {"choosing", "draws", "image", "inference", "signal", "tiling", "view"},
    "interop": {"formats", "image"},
    "pipeline": {"device", "image", "inference", "interop", "methods", "options", "plane"}
    | {"choosing", "ranges", "signal", "tiling", "view", "weights"},
    "export_forms": set(),
    "exporting": {"draws", "export_forms", "methods", "weights"},
    "timing": {"device", "image", "methods", "options", "pipeline", "weights"},
    "auto": {"choosing", "image", "interop", "options", "pipeline", "plane", "tiling", "view"}
    | {"weights"},
    "overlap": {"formats", "image"},
    "batch": {"formats", "image", "options", "overlap", "pipeline", "plane"},
    "outputs": {"formats"},
    "arrays": {"formats", "image"},
    "pictures": {"arrays", "formats", "image", "outputs", "ranges", "signal"},
    "noise": {"batch", "formats", "image", "ranges", "signal"},
    "training": {"device", "formats", "image", "methods", "noise", "options", "outputs", "pictures"}
    | {"pipeline", "ranges", "weights"},
    "fitting": {"device", "draws", "estimate", "formats", "image", "inference", "methods"}
    | {"nets", "options", "pipeline", "plane", "ranges", "signal", "training", "view", "weights"},
    "baselines": set(),
    "bench": {"arrays", "baselines", "device", "formats", "image", "methods", "noise", "options"}
    | {"pictures", "pipeline", "ranges", "weights"},
    "report": set(),
    "comparing": {
        "auto",
        "baselines",
        "bench.probe",
        "choosing",
        "device",
        "image",
        "methods",
        "options",
    }
    | {"pipeline", "ranges", "timing", "weights"},
    "choosing": {"tiling"},
    "api": {"auto", "batch", "device", "fitting", "formats", "interop", "options", "outputs"}
    | {"pipeline", "signal", "training.threads", "weights"},
    "__init__": {"api"},
    "cli": {"auto", "bench", "choosing", "comparing", "pictures"}
    | {"batch", "device", "estimate", "exporting", "fitting", "formats", "image"}
    | {"inference", "methods", "noise", "options", "outputs", "pipeline", "ranges", "timing"}
    | {"report", "signal", "training", "view", "weights"},
    "__main__": {"cli"},
}
EVERYONE = {"_version", "atomic", "errors"}
# Imported late by those who need them.
TORCH_AT_THE_TOP = re.compile(
    r"nets/.*|weights/checkpoint\.py|methods/(pd|\w+_objective)\.py"
    r"|training/(cost|loop|run|step)\.py|fitting/(learner|losses|refining)\.py"
    r"|choosing/(spectrum|noise|gain|restoration|structure)\.py"
)


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def name_of(path: Path) -> str:
    return path.relative_to(PACKAGE).as_posix()


def part_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


@cache
def parse(path: Path) -> ast.Module:
    """Read a module; the tree is shared, so that nobody may change it."""
    return ast.parse(path.read_text(encoding="utf-8"))


@cache
def imports(path: Path) -> tuple[tuple[str, bool], ...]:
    """Return what `imported` finds in a whole module."""
    return tuple(imported(parse(path), path))


def imported(tree: ast.AST, path: Path) -> Iterator[tuple[str, bool]]:
    """Yield the full name of every module imported, and whether that happens at run time."""
    typing_only = {
        id(child)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")
        for child in ast.walk(node)
    }
    for node in ast.walk(tree):
        runs = id(node) not in typing_only
        if isinstance(node, ast.Import):
            yield from ((alias.name, runs) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name_of(path)}: imports are absolute here"
            module = node.module or ""
            # "from denoisekit import errors" imports denoisekit.errors.
            names = [f"{module}.{alias.name}" for alias in node.names]
            yield from ((name if module == "denoisekit" else module, runs) for name in names)


def top_level(tree: ast.Module) -> ast.Module:
    """Return what runs when the module is imported: no function bodies, no typing blocks."""
    kept: list[ast.stmt] = [
        node
        for node in tree.body
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and not (isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"))
    ]
    return ast.Module(kept, [])


@pytest.mark.parametrize("path", modules(), ids=name_of)
def test_imports_follow_the_arrows(path):
    part = part_of(path)
    assert part in MAY_IMPORT, f"say in this test what {part} may import"
    allowed = MAY_IMPORT[part] | EVERYONE | {part}
    for name, runs in imports(path):
        ours, _, rest = name.partition(".")
        if ours == "denoisekit" and runs:
            assert any(f"{rest}.".startswith(f"{part}.") for part in allowed), (
                f"{name_of(path)} must not import {name}"
            )


def test_the_table_of_arrows_has_no_circle():
    order: list[str] = []
    while len(order) < len(MAY_IMPORT):
        free = [
            part
            for part, needs in MAY_IMPORT.items()
            if part not in order and {need.split(".")[0] for need in needs} <= set(order)
        ]
        assert free, f"circle among {set(MAY_IMPORT) - set(order)}"
        order += free


@pytest.mark.parametrize("path", sorted((PACKAGE / "nets").glob("*.py")), ids=name_of)
def test_nets_import_torch_and_the_standard_library_only(path):
    for name, _ in imports(path):
        top = name.partition(".")[0]
        assert top in {"torch", "einops"} | sys.stdlib_module_names or name.startswith(
            "denoisekit.nets"
        ), name


@pytest.mark.parametrize("path", modules(), ids=name_of)
def test_torch_is_imported_inside_functions(path):
    if TORCH_AT_THE_TOP.fullmatch(name_of(path)):
        return
    tree = top_level(ast.parse(path.read_text(encoding="utf-8")))
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            node.body = [n for n in node.body if not isinstance(n, ast.FunctionDef)]
    assert "torch" not in {name.partition(".")[0] for name, _ in imported(tree, path)}


@pytest.mark.parametrize("path", modules(), ids=name_of)
def test_only_render_prints_and_only_main_exits(path):
    tree = parse(path)
    calls = {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    if name_of(path) != "cli/render.py":
        assert not calls & {"print", "typer.echo", "typer.secho"}
        assert not {c for c in calls if re.fullmatch(r"sys\.(stdout|stderr)\.write", c)}
    if name_of(path) != "cli/app.py":
        assert not calls & {"sys.exit", "exit", "quit", "os._exit"}


@pytest.mark.parametrize("path", modules(), ids=name_of)
def test_public_names_exist(path):
    name = ".".join(["denoisekit", *path.relative_to(PACKAGE).with_suffix("").parts])
    if name.endswith("__main__"):
        return
    module = importlib.import_module(name.removesuffix(".__init__"))
    for public in getattr(module, "__all__", ()):
        assert getattr(module, public, None) is not None, f"{name}.{public}"


def test_importing_the_package_and_the_commands_loads_no_torch():
    program = (
        "import denoisekit, denoisekit.cli.app, denoisekit.methods, denoisekit.formats, sys\n"
        "print(sorted({'torch', 'imagecodecs', 'tifffile', 'PIL'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"


def test_every_import_is_a_declared_dependency():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    lines = (
        project["dependencies"]
        + extras["export"]
        + extras["train"]
        + extras["bench"]
        + extras["heif"]
    )
    declared = {re.split(r"[<>=!~\[ ;]", line)[0].lower() for line in lines}
    providers = metadata.packages_distributions()
    for path in modules():
        for name in {name.partition(".")[0] for name, _ in imports(path)}:
            if name == "denoisekit" or name in sys.stdlib_module_names:
                continue
            found = {provider.lower().replace("_", "-") for provider in providers.get(name, [name])}
            assert found & declared, f"{name_of(path)} imports {name}: not in pyproject.toml"


def test_every_declared_dependency_is_imported():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    declared = {re.split(r"[<>=!~\[ ;]", line)[0].lower() for line in project["dependencies"]}
    providers = metadata.packages_distributions()
    used = {
        provider.lower().replace("_", "-")
        for path in modules()
        for name, _ in imports(path)
        for provider in providers.get(name.partition(".")[0], [])
    }
    assert declared <= used, f"declared and never imported: {declared - used}"
