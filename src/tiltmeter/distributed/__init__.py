"""`--ray`: the same run over the workers of a Ray cluster."""
