"""How to run a command on a machine: ours (`local`), or a server's over SSH (`remote`).

Plain Python; this package knows no Django, and no other starts a process or speaks SSH.
"""
