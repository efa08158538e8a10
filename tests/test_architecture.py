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

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "denoisekit"

# A part (a module or folder directly in the package) may import parts of the rows above its own.
LAYERS = (
    {"_version", "errors"},
    {"atomic", "draws", "image", "limits"},
    {"baselines", "formats", "metrics", "nets", "report"},
    {"ranges"},
    {"methods", "noise"},
    {"weights"},
    {"interop", "options"},
    {"engine"},
    {"arrays", "batch", "export", "ranking"},
    {"pairs"},
    {"learn"},
    {"auto", "bench"},
    {"compare"},
    {"api"},
    {"__init__"},
    {"cli"},
    {"__main__"},
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


def is_module(name: str) -> bool:
    path = PACKAGE.parent.joinpath(*name.split("."))
    return path.is_dir() or path.with_suffix(".py").exists()


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
            yield from ((name if is_module(name) else module, runs) for name in names)


def top_level(tree: ast.Module) -> ast.Module:
    """Return what runs when the module is imported: no function bodies, no typing blocks."""
    kept: list[ast.stmt] = [
        node
        for node in tree.body
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and not (isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"))
    ]
    return ast.Module(kept, [])


def ours(path: Path) -> set[str]:
    """Return the modules of the package that a module imports at run time."""
    found = set()
    for name, runs in imports(path):
        first, _, rest = name.partition(".")
        if first == "denoisekit" and runs:
            found.add(rest or "__init__")
    return found


def test_every_part_has_its_layer():
    assert {part_of(path) for path in modules()} == set().union(*LAYERS)


def test_imports_go_down():
    level = {part: index for index, row in enumerate(LAYERS) for part in row}
    wrong = [
        f"{name_of(path)} imports {name}"
        for path in modules()
        for name in ours(path)
        if (part := name.split(".")[0]) != part_of(path) and level[part] >= level[part_of(path)]
    ]
    assert not wrong


def test_no_modules_import_each_other():
    known = {
        ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__"): path
        for path in modules()
    }
    needs = {
        name: {
            other.removeprefix("denoisekit.")
            for other, runs in imported(top_level(parse(path)), path)
            if runs and other.removeprefix("denoisekit.") in known
        }
        - {name}
        for name, path in known.items()
    }
    while free := [name for name, others in needs.items() if not others & needs.keys()]:
        for name in free:
            del needs[name]
    assert not needs, f"circle among {sorted(needs)}"


def test_nets_import_torch_and_the_standard_library_only():
    for path in (PACKAGE / "nets").glob("*.py"):
        for name, _ in imports(path):
            top = name.partition(".")[0]
            assert top in {"torch", "einops"} | sys.stdlib_module_names or name.startswith(
                "denoisekit.nets"
            ), f"{name_of(path)}: {name}"


def test_only_render_prints_and_only_main_exits():
    for path in modules():
        check_that_it_neither_prints_nor_exits(path)


def check_that_it_neither_prints_nor_exits(path: Path) -> None:
    tree = parse(path)
    calls = {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    if name_of(path) != "cli/render.py":
        assert not calls & {"print", "typer.echo", "typer.secho"}
        assert not {c for c in calls if re.fullmatch(r"sys\.(stdout|stderr)\.write", c)}
    if name_of(path) != "cli/app.py":
        assert not calls & {"sys.exit", "exit", "quit", "os._exit"}


def test_public_names_exist():
    for path in modules():
        name = ".".join(["denoisekit", *path.relative_to(PACKAGE).with_suffix("").parts])
        if name.endswith("__main__"):
            continue
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
