"""Small files on a server, over SFTP: also where the account has no shell that could be asked."""

import contextlib
import stat
from collections.abc import Iterator

import paramiko

from servers.ssh.remote import BROKEN, Remote
from servers.ssh.transport import NoFiles

SECONDS = 30.0
READ_LIMIT = 1024 * 1024  # bytes


@contextlib.contextmanager
def session(remote: Remote) -> Iterator[paramiko.SFTPClient]:
    """Raises NoFiles where the account has no SFTP, or does not let us, and ConnectionLost."""
    try:
        with remote.losing():
            channel = remote.transport.open_session(timeout=SECONDS)
        channel.settimeout(SECONDS)
        channel.invoke_subsystem("sftp")
        client = paramiko.SFTPClient(channel)
    except BROKEN as error:
        if not remote.is_alive:
            raise remote.lost() from error
        raise NoFiles(f"{remote.name} has no SFTP for {remote.login.user}.") from error
    try:
        yield client
    except (paramiko.SSHException, EOFError) as error:
        raise remote.lost() from error
    except OSError as error:
        raise NoFiles(f"{remote.name} refused it over SFTP: {error.strerror or error}.") from error
    finally:
        client.close()


def read(client: paramiko.SFTPClient, path: str) -> bytes:
    """What is in the file, up to READ_LIMIT; nothing, when there is no such file."""
    try:
        with client.open(path) as file:
            return file.read(READ_LIMIT)
    except FileNotFoundError:
        return b""


def replace(client: paramiko.SFTPClient, path: str, content: bytes) -> None:
    """Write the file anew as a whole, for its owner's eyes only; its folder is made if need be."""
    folder = path.rpartition("/")[0]
    with contextlib.suppress(OSError):
        client.mkdir(folder, 0o700)
    part = f"{path}.phpborg"
    with client.open(part, "wb") as file:
        client.chmod(part, 0o600)
        file.write(content)
    client.posix_rename(part, path)


def names(client: paramiko.SFTPClient, folder: str) -> list[str]:
    """What lies in the folder; nothing, when there is none."""
    try:
        return sorted(client.listdir(folder))
    except FileNotFoundError:
        return []


def is_folder(client: paramiko.SFTPClient, path: str) -> bool:
    try:
        return stat.S_ISDIR(client.stat(path).st_mode or 0)
    except FileNotFoundError:
        return False
