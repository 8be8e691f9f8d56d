"""What reads judged rows: policy, gate, choice of a variant, findings."""
