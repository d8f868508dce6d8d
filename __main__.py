"""Run the BIDS App as ``python -m multiqsm``."""

from multiqsm.cli.app import main

if __name__ == "__main__":
    raise SystemExit(main())
