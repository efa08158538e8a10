"""What can be said of a result without a clean picture, and what follows from it.

The difference between a noisy picture and its denoised version should be noise and nothing
else. Where the picture is flat it is: there the noise is measured. Where the difference is
larger than that, or shows a pattern, picture was lost, and `restoration` returns it. Which of
several ways suits a picture, `renoised` finds: scene and noise are taken from the picture
itself, and put together anew.
"""
