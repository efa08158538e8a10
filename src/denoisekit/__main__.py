"""``python -m denoisekit``, and what the command ``denoisekit`` calls."""

from typing import NoReturn


def main() -> NoReturn:
    """Run the command line; it may be interrupted while it is still being loaded."""
    try:
        from denoisekit.cli.app import main as run
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    run()


if __name__ == "__main__":
    main()
