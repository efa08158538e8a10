"""Write the example package of docs/extending.md: what is documented is what is tested.

python scripts/write_example_plugin.py FOLDER
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path

PAGE = Path(__file__).parents[1] / "docs" / "extending.md"


def write(folder: Path) -> list[Path]:
    """Write every file that the page shows with a title; return their paths."""
    blocks = re.findall(
        r'^```\w+ title="([^"]+)"\n(.*?)^```$', PAGE.read_text("utf-8"), re.M | re.S
    )
    written = []
    for name, text in blocks:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        written.append(path)
    return written


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Write the example package of the documentation.")
    parser.add_argument("folder", type=Path)
    for path in write(parser.parse_args().folder):
        print(path)


if __name__ == "__main__":
    main()
