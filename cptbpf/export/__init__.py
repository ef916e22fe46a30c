"""Recordings in the formats of other tools. Only the modules of heavy formats import what these need."""
