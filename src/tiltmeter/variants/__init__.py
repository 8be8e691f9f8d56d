"""A model under a strategy chain, with proof; ready-made checkpoints; what a variant's speed really is."""
