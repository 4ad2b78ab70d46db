from tests.e2e.conftest import short_dir, sshd  # noqa: F401 - fixtures
