"""Learning: a network for one image, or for a folder of them. No torch until it runs."""
