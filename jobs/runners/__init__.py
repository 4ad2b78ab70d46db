"""Jobs that belong to no app above: one file for each type."""
