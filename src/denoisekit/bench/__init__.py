"""Numbers one can trust: metrics, protocols, sets of pictures, and runs over them."""
