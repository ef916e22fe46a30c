"""Tasks that are looked at over time: the screen that top and replay share."""
