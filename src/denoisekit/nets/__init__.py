"""The networks: plain torch modules, one file per network."""
