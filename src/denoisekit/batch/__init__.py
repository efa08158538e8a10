"""Many files: names of the results, and a run over all of them."""
