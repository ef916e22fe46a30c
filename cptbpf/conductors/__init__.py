"""Where the rooms meet: only these modules know kernel, trace, proc and image at once."""
