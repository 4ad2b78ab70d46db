"""backups.placing: how its scripts walk, on this machine's own shell."""

from __future__ import annotations

from pathlib import Path

import pytest

from backups.placing import WALK
from servers.ssh.command import Command
from servers.ssh.local import Local
from servers.ssh.transport import run


def walked(script: str, *words: str) -> str:
    return run(Local(), Command(("sh", "-c", WALK + script, "phpborg", *words)), lambda: None).text


def test_a_link_that_comes_after_the_look_is_noticed_when_it_is_entered(tmp_path: Path) -> None:
    """Red where the kernel is not asked where one has got to."""
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    told = walked('top; cd -P -- "$1"; enter link || printf %s "$why"', str(tmp_path))
    assert told == f"{tmp_path}/link is a symbolic link, which is not followed."
    assert walked('top; cd -P -- "$1"; enter real && pwd -P', str(tmp_path)) == str(tmp_path / "real")


def test_our_own_link_is_followed_where_nobody_else_could_have_put_it(tmp_path: Path) -> None:
    (tmp_path / "real" / "deep").mkdir(parents=True)
    (tmp_path / "link").symlink_to("../" + tmp_path.name + "/real")
    path = f"{tmp_path}/link/deep"
    assert walked('top; walk "$1" follow && pwd -P', path) == str(tmp_path / "real/deep")
    assert walked('top; walk "$1" || printf %s "$why"', path).endswith(
        "link is a symbolic link, which is not followed."
    )


def test_where_everybody_may_write_no_link_is_followed(tmp_path: Path) -> None:
    """Red where the owner of a link is all that is asked for."""
    (tmp_path / "open" / "real").mkdir(parents=True)
    (tmp_path / "open" / "link").symlink_to("real")
    (tmp_path / "open").chmod(0o777)
    assert "is not followed" in walked('top; walk "$1" follow || printf %s "$why"', f"{tmp_path}/open/link")
    (tmp_path / "open").chmod(0o1777)
    assert walked('top; walk "$1" follow && pwd -P', f"{tmp_path}/open/link") == f"{tmp_path}/open/real"


def test_links_in_a_circle_end(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    assert walked('top; walk "$1" follow || echo ended', f"{tmp_path}/a") == "ended"


@pytest.mark.parametrize("name", ["new\nline", "-rf", " ", "$(id)", "*", "snow ☃", "\udce9", "..x"])
def test_folders_of_any_name_are_made_and_entered(tmp_path: Path, name: str) -> None:
    assert walked('top; walk "$1" follow make && echo there', f"{tmp_path}/{name}/in") == "there"
    assert (tmp_path / name / "in").is_dir()
