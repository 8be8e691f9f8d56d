"""The fast path: every shared prefix of a batch computed once."""
