"""Write simulated studies as BIDS datasets."""
