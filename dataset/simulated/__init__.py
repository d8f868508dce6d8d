"""Simulated studies written as BIDS datasets."""
