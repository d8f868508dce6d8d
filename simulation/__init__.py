"""Ground truth: simulated heads, phantoms and their acquisition."""
