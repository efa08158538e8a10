"""Write docs/cli.md, and the tables of docs/python.md, from the options; ``--check`` only compares.

python scripts/make_cli_docs.py
python scripts/make_cli_docs.py --check
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import typer

from denoisekit import api
from denoisekit.cli.app import EXIT_CODES, app
from denoisekit.options import FileOptions, FitOptions, Options, in_words, keyword_options

DOCS = Path(__file__).parents[1] / "docs"
BEGIN, END = "<!-- Made by scripts/make_cli_docs.py: -->\n", "<!-- Until here. -->\n"

INTRODUCTION = """\
# Command line

<!-- Made by scripts/make_cli_docs.py from the commands themselves: change those, not this file. -->

Results go to stdout, everything else to stderr. Nothing is overwritten unless you ask for it.

"""


def page() -> str:
    """Return the Markdown of the whole reference."""
    root: Any = typer.main.get_command(app)
    text = INTRODUCTION + "## Exit codes\n\n| code | meaning |\n|---|---|\n"
    text += "".join(f"| {code} | {meaning} |\n" for code, meaning in EXIT_CODES.items())
    return text + "\n" + "\n".join(_sections(root, "denoisekit"))


def _sections(command: Any, path: str) -> list[str]:
    """Return the section of a command, then those of the commands below it."""
    found = [_section(command, path)]
    for name, child in getattr(command, "commands", {}).items():
        if not child.hidden:
            found += _sections(child, f"{path} {name}")
    return found


def _section(command: Any, path: str) -> str:
    context = typer.Context(command, info_name=path)
    arguments = [p for p in command.params if p.param_type_name == "argument"]
    usage = " ".join([path, "[OPTIONS]", *(_name(argument, context) for argument in arguments)])
    usage += " COMMAND [ARGS]..." if hasattr(command, "commands") else ""
    lines = [f"## {path}", "", f"```text\n{usage}\n```", ""]
    if command.help:
        lines += [command.help.strip(), ""]
    rows = [row for parameter in command.params if (row := _row(parameter, context))]
    if rows:
        lines += ["| argument or option | what it does | default |", "|---|---|---|", *rows, ""]
    if command.epilog:
        examples = [line.strip() for line in command.epilog.split("\n\n")[1:]]
        lines += ["Examples:", "", "```console", *(f"$ {line}" for line in examples), "```", ""]
    return "\n".join(lines)


def _row(parameter: Any, context: Any) -> str | None:
    if getattr(parameter, "hidden", False):
        return None
    cells = [
        f"`{_name(parameter, context)}`",
        " ".join((parameter.help or "").split()),
        "" if parameter.default in (None, False, ()) else f"`{parameter.default}`",
    ]
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _name(parameter: Any, context: Any) -> str:
    """Return an option as it is typed, with what it takes; or an argument's name."""
    if parameter.param_type_name == "argument":
        name = str(parameter.metavar or parameter.name.upper())
        many = "..." if parameter.nargs == -1 and not name.endswith("...") else ""
        return name + many
    names = ", ".join([*parameter.opts, *parameter.secondary_opts])
    if parameter.is_flag:
        return names
    return f"{names} {parameter.metavar or parameter.display_type(context)}"


def python_page(text: str) -> str:
    """Return docs/python.md with the tables of today's options."""
    before, after = text.split(BEGIN)[0], text.split(END)[1]
    tables = (
        ("`load` and `denoise`", (api.DenoiseKeywords, Options, FileOptions)),
        ("`fit_single`", (api.FitKeywords, FitOptions)),
    )
    made = ""
    for title, declaration in tables:
        made += f"| keyword of {title} | what it does | type | default |\n|---|---|---|---|\n"
        for each, type_, default in keyword_options(*declaration):
            cells = (f"`{each.name}`", each.metadata["help"], in_words(type_), f"`{default!r}`")
            made += f"| {' | '.join(cells)} |\n"
        made += "\n"
    return f"{before}{BEGIN}\n{made}{END}{after}"


def pages() -> dict[Path, str]:
    """Return what the generated pages should hold."""
    python = DOCS / "python.md"
    return {DOCS / "cli.md": page(), python: python_page(python.read_text(encoding="utf-8"))}


def main() -> int:
    """Write the pages, or tell whether they are current."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="fail where a page is not current")
    check = parser.parse_args().check
    stale = [(path, text) for path, text in pages().items() if path.read_text("utf-8") != text]
    for path, text in stale:
        if check:
            print(f"{path} is not current: run python scripts/make_cli_docs.py", file=sys.stderr)
        else:
            path.write_text(text, encoding="utf-8")
    return 1 if stale and check else 0


if __name__ == "__main__":
    sys.exit(main())
