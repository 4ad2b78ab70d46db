"""What to say to borg, and how to read its answers. Plain Python; knows no Django."""
