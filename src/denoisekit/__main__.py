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
    try:
        main()
    finally:
        # With -m, Python ends as if by Ctrl-C, whatever the exit code, where an interruption
        # went through an exec (dataclasses have one) before; the next exec makes it forget.
        exec("")  # noqa: S102
