"""What a run shows of a compressed artifact, as a statement that can be signed, verified and reproduced."""
