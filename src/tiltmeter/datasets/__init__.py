"""Data sets: where each comes from, under which licence, with which checksum."""
