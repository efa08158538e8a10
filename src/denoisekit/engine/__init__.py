"""The one way from noisy bands to denoised bands: tiles, workers, values, memory."""
