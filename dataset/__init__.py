"""Read, check and write the files of BIDS datasets."""
