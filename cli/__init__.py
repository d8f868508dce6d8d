"""The command line: the BIDS App and its companion commands."""
