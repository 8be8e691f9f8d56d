"""One strategy and one benchmark for tiltmeter, in a package of their own."""
