"""One module per file format, each with its readers; ``taskgroup.densities.read`` chooses among them."""
