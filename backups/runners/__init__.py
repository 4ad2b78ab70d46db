"""One file per job type that works with borg. `base` is what they share."""
