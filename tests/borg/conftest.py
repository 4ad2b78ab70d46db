from hypothesis import settings

# No deadline: what else this machine does is not what these tests are about.
settings.register_profile("phpborg", deadline=None)
settings.load_profile("phpborg")
