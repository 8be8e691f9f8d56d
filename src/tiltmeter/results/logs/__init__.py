"""Per-item files of other tools -> outcomes -> verdicts, by the code that judges a run (`tiltmeter judge`)."""
