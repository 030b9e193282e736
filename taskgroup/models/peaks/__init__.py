"""The atoms of a density: where they are, what it looks like around them, and how near they are to each other."""
