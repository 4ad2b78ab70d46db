"""The pages of what is backed up; one file per thing."""
