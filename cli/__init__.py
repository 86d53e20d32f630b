"""The `nesycd` command: a client of the contracts, and the starter of everything on one machine."""
