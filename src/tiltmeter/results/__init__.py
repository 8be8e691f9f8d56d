"""From a run folder to the results document: scores, changes, published values."""
