"""A folder -> a model in memory; knows no strategy."""
