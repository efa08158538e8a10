"""``python -m denoisekit``."""

from denoisekit.cli.app import main

main()
