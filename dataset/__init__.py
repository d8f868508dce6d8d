"""BIDS datasets as files: what comes in from one, its checks, and what goes out to one."""
