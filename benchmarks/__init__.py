"""How fast it is, against named peers, measured in one run on one machine."""
