"""One file per job type that works on a server."""
