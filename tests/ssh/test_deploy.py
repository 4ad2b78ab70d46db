"""deploy/sshd_config.d: what it says is what sshd then does, for that account and no other."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from phpborg.embedded import Sshd

pytestmark = pytest.mark.e2e

DROP_IN = Path(__file__).parents[2] / "deploy" / "sshd_config.d" / "phpborg-storage.conf"


def effective(sshd: Sshd, tmp_path: Path, user: str) -> dict[str, str]:
    """sshd's own words for `user`, with the drop-in read first, as Debian's sshd_config does."""
    configuration = tmp_path / "sshd_config"
    configuration.write_text(f"HostKey {sshd.host_key}\nInclude {DROP_IN}\n")
    binary = shutil.which("sshd", path="/usr/sbin:/usr/local/sbin")
    words = [str(binary), "-T", "-f", str(configuration), "-C", f"user={user},host=x,addr=192.0.2.7"]
    told = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    return dict(line.split(" ", 1) for line in told.splitlines() if " " in line)


def test_the_account_may_do_what_borg_needs_and_a_dead_server_is_noticed(sshd: Sshd, tmp_path: Path) -> None:
    borg, other = effective(sshd, tmp_path, "borg"), effective(sshd, tmp_path, "ada")
    assert (borg["permittty"], borg["disableforwarding"], borg["permituserrc"]) == ("no", "yes", "no")
    assert borg["authenticationmethods"] == "publickey"
    assert int(borg["clientaliveinterval"]) * int(borg["clientalivecountmax"]) <= 60
    assert (other["permittty"], other["disableforwarding"]) == ("yes", "no")
