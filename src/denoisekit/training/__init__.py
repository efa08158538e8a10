"""Training: patches of pictures, one loop, and a state that survives. No torch until it runs."""
