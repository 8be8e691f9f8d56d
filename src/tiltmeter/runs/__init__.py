"""The run folder: what is written, when, and how a killed run goes on."""
