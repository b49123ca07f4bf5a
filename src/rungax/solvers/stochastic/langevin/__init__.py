"""Methods for underdamped Langevin dynamics."""
