"""What made the built-in model and its data; nothing here runs in `tiltmeter demo`."""
