"""A real SSH server on loopback, for a whole session of tests."""

from __future__ import annotations

import os
import pwd
from collections.abc import Iterator

import pytest

from phpborg.embedded import Sshd
from servers.keys import new_key_pair
from servers.ssh.remote import HostKey, Login, Remote, see_host_key

USER = pwd.getpwuid(os.getuid()).pw_name


@pytest.fixture(scope="session")
def key_pair() -> tuple[str, str]:
    return new_key_pair("phpborg@tests")


@pytest.fixture(scope="session")
def sshd(tmp_path_factory: pytest.TempPathFactory, key_pair: tuple[str, str]) -> Iterator[Sshd]:
    place = tmp_path_factory.mktemp("server")
    # Without the .bashrc of whoever runs the tests: it may take its time, and may print.
    with Sshd(place / "sshd", options=[f"SetEnv HOME={place}"]) as server:
        server.authorized_keys.write_text(f"{key_pair[1]}\n")
        yield server


@pytest.fixture
def login(sshd: Sshd, key_pair: tuple[str, str]) -> Login:
    return Login("127.0.0.1", sshd.port, USER, key_pair[0])


@pytest.fixture(scope="session")
def host_key(sshd: Sshd) -> HostKey:
    return see_host_key("127.0.0.1", sshd.port)


@pytest.fixture
def remote(login: Login, host_key: HostKey) -> Iterator[Remote]:
    with Remote(login, host_key) as session:
        yield session
