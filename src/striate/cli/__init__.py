"""The command line: one short file per command, each with its options, one call into a room, and the printing."""
