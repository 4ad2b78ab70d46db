"""Lines of an account's `authorized_keys`, as text. Whatever stands there that is not ours stays as it is."""


def forced(public_key: str, command: str) -> str:
    """A line with which `public_key` can do nothing but `command` (sshd(8), AUTHORIZED_KEYS FILE FORMAT)."""
    quoted = command.replace('"', '\\"')
    return f'restrict,command="{quoted}" {public_key}'


def with_line(text: str, line: str) -> str:
    """`text` and `line`, also after a last line that does not end."""
    return f"{text}{'' if not text or text.endswith(chr(10)) else chr(10)}{line}\n"


def without_key(text: str, public_key: str) -> str:
    """`text` without the lines that let `public_key` in, whatever their options and comments."""
    return without_word(text, public_key.split()[1])  # "type base64 comment": the base64 text says which key it is


def without_comment(text: str, comment: str) -> str:
    """`text` without the lines of which that is the comment: a single word."""
    return "".join(line for line in text.splitlines(keepends=True) if line.split()[-1:] != [comment])


def without_word(text: str, word: str) -> str:
    return "".join(line for line in text.splitlines(keepends=True) if word not in line.split())
