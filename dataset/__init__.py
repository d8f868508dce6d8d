"""What comes in from a BIDS dataset and what goes out to one: scans, their checks, derivatives."""
