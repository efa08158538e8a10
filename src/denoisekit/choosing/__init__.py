"""What can be said of a result without a clean picture, and what follows from it.

The difference between a noisy picture and its denoised version should be noise and nothing
else. Where the picture is flat it is: there the noise is measured. Where the difference is
larger than that, picture was lost: `score` counts it against a result, and `give_back`
returns it.
"""

from denoisekit.choosing.score import score

__all__ = ["score"]
