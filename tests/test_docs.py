"""The documents agree with the program, with one another and with CI."""

from __future__ import annotations

import ast
import importlib.util
import re
import tomllib
from pathlib import Path

import pytest

import denoisekit
from denoisekit.cli.app import MEANT

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
CI = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]

OLD_WORDS = (
    *("crew", "extremes", "judge", "judges", "material", "materials", "moments", "opacity"),
    *("recognise", "recognised", "recognises", "renoised", "tally", "workshop"),
)
"""Words that the table of words in `docs/extending.md` replaces."""
OLD_WORDS_OF_PROSE = ("giving", "picture", "pictures", "telephone", "telephones", "told", "whom")
"""And those that stay in code and in what it prints."""


def blocks(text: str) -> list[list[str]]:
    """Return the commands of every fenced shell block."""
    return [found.strip().splitlines() for found in re.findall(r"```sh\n(.*?)```", text, re.S)]


def test_the_command_reference_is_current():
    spec = importlib.util.spec_from_file_location(
        "make_cli_docs", ROOT / "scripts" / "make_cli_docs.py"
    )
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    for path, text in script.pages().items():
        assert path.read_text(encoding="utf-8") == text, "run python scripts/make_cli_docs.py"


def test_ci_runs_the_readme_line_as_it_stands():
    (line,) = blocks(README)[1]
    assert line.endswith(" && pytest")
    assert f"{line} || exit 1" in CI.splitlines()


def test_both_readme_recipes_install_the_same_torch():
    (use,), (development,) = blocks(README)
    begin = "python3 -m venv .venv && . .venv/bin/activate && pip install torch==2.13.0 "
    assert use.startswith(begin)
    assert development.startswith(begin)
    quickstart = (ROOT / "docs" / "quickstart.md").read_text(encoding="utf-8")
    assert blocks(quickstart)[0] == [use]


def test_the_readme_example_is_what_ci_denoises():
    (use,), _ = blocks(README)
    example = use.rpartition(" && denoisekit denoise ")[2]
    assert (ROOT / example).is_file()
    assert f"example=$PWD/{example}" in CI


@pytest.mark.parametrize(
    "page", ["README.md", *(f"docs/{p.name}" for p in sorted((ROOT / "docs").glob("*.md")))]
)
def test_links_and_pictures_of_the_documents_exist(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#\s]+)", text):
        if "://" not in target:
            assert (ROOT / page).parent.joinpath(target).exists(), target


def test_commands_and_options_in_the_documents_exist():
    reference = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
    known_options = set(re.findall(r"--[a-z][a-z-]+", reference)) | {"--help"}
    known_commands = set(re.findall(r"^## denoisekit ([a-z -]+)$", reference, re.M))
    for page in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]:
        text = page.read_text(encoding="utf-8")
        ours = re.sub(r"(?:`|^)(?:python|pip|mkdocs) (?:\\\n|[^`\n])*", "", text, flags=re.M)
        options = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", ours))
        others = {"--extra-index-url", "--nproc-per-node", *MEANT}
        assert options - others <= known_options, page.name
        inline = re.findall(r"`denoisekit ([a-z][a-z-]*(?: [a-z]+)?)", text)
        lines = [line for block in blocks(text) for line in block]
        typed = [
            found[1] for line in lines if (found := re.match(r"denoisekit ([a-z][a-z-]*)", line))
        ]
        for command in [*inline, *typed]:
            words = command.split()
            # Only weights has commands of its own: elsewhere the second word is an argument.
            name = command if words[0] == "weights" else words[0]
            assert name in known_commands, f"{page.name}: denoisekit {command}"


def test_the_changelog_begins_with_what_is_new():
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    headings = re.findall(r"^## (.+)$", text, re.M)
    assert headings[0] == "[Unreleased]" or headings[0].startswith(f"[{denoisekit.__version__}]")
    kinds = set(re.findall(r"^### (.+)$", text, re.M))
    assert kinds <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
    released = [heading for heading in headings if heading != "[Unreleased]"]
    assert all(re.fullmatch(r"\[\d+\.\d+\.\d+\] - \d{4}-\d\d-\d\d", h) for h in released)


def test_every_page_is_in_the_site():
    site = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    pages = {path.name for path in (ROOT / "docs").glob("*.md")}
    assert pages == set(re.findall(r": ([\w-]+\.md)$", site, re.M))


def test_every_part_of_the_package_is_explained_to_newcomers():
    page = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
    for path in (ROOT / "src" / "denoisekit").glob("[a-z]*"):
        if path.suffix == ".py" or (path / "__init__.py").exists():
            name = path.name if path.suffix else f"{path.name}/"
            assert f"`{name}`" in page, name


def test_wheel_and_sdist_carry_the_manifest_and_the_licence():
    build = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["hatch"]
    targets = build["build"]["targets"]
    assert "weights_manifest.json" in targets["wheel"]["force-include"]
    assert {"weights_manifest.json", "LICENSE", "tests", "scripts", "mkdocs.yml", ".ci"} <= set(
        targets["sdist"]["include"]
    )


def test_old_words_are_gone_from_code_and_pages():
    old = set(OLD_WORDS)
    found = []
    for path in (ROOT / "src").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            for field in ("name", "id", "attr", "arg", "asname"):
                name = getattr(node, field, None) or ""
                words = {word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+", name)}
                found += [f"{path.name}: {name}"] if words & old else []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        words = set(re.findall(r"[a-z]+", text.lower()))
        found += [f"{page.name}: {word}" for word in words & old]
        if page.name != "cli.md":
            prose = re.sub(r"```.*?```|`[^`]*`|<!--.*?-->|\]\([^)]*\)", "", text, flags=re.S)
            words = set(re.findall(r"[a-z]+", prose.lower()))
            found += [f"{page.name}: {word}" for word in words & set(OLD_WORDS_OF_PROSE)]
    assert not found
