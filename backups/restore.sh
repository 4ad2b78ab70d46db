#!/bin/sh
# Gets files back with nothing but borg (1.2 or 1.4), and ssh if the repository is on another machine.
#
#   sh restore.sh                      lists the archives
#   sh restore.sh ARCHIVE [TARGET]     puts all of an archive into the folder TARGET (default: restored)
#   sh restore.sh key                  gives a repository that has lost its key the one in key.txt (README.txt)
#
# In front of it, if need be:
#   REPO=/where/it/is/now              or REPO=ssh://user@machine/path
#   SSH_KEY=/a/private/key             with which ssh logs in; default: as ssh is set up
#
# The passphrase is in passphrase.txt; without that file borg asks for it.
set -eu

@SETTINGS@

say() { printf '%s\n' "$*" >&2; }

here=$(cd -- "$(dirname -- "$0")" && pwd)
repo=${REPO:-$location}
case $repo in
    /* | *:*) ;;
    *) repo=$PWD/$repo ;;
esac

# A folder of borg's own, for this once: nothing of this machine gets in the way, and nothing stays behind.
base=$(mktemp -d)
trap 'rm -rf -- "$base"' EXIT
trap 'exit 130' HUP INT TERM
unset BORG_PASSPHRASE BORG_PASSCOMMAND BORG_KEY_FILE BORG_CACHE_DIR BORG_CONFIG_DIR BORG_SECURITY_DIR BORG_KEYS_DIR
export BORG_BASE_DIR="$base" LC_ALL=C.UTF-8

case $mode in
    keyfile*) export BORG_KEY_FILE="$here/key.txt" ;;
    none) export BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK=yes ;;
esac
export BORG_RSH=ssh
if [ -n "${REPO:-}" ]; then
    export BORG_RELOCATED_REPO_ACCESS_IS_OK=yes
else
    if [ -n "$remote_borg" ]; then export BORG_REMOTE_PATH="$remote_borg"; fi
    if [ -s "$here/known_hosts" ]; then
        cp -- "$here/known_hosts" "$base/known_hosts"
        BORG_RSH="ssh -o StrictHostKeyChecking=yes -o 'UserKnownHostsFile=\"$base/known_hosts\"'"
    fi
fi
if [ -n "${SSH_KEY:-}" ]; then BORG_RSH="$BORG_RSH -o IdentitiesOnly=yes -i '$SSH_KEY'"; fi

# The passphrase goes to borg through a file descriptor: no other user of this machine can see it.
run_borg() {
    if [ -f "$here/passphrase.txt" ]; then
        BORG_PASSPHRASE_FD=3 borg "$@" 3<"$here/passphrase.txt"
    else
        borg "$@"
    fi
}

# --bypass-lock: we only read, and whoever locked the repository may be as dead as the machine it was on.
case ${1:-list} in
    -h | --help)
        sed -n '2,12s/^# \{0,1\}//p' "$0"
        ;;
    list)
        run_borg list --bypass-lock "$repo"
        ;;
    key)
        case $mode in
            repokey* | authenticated*) ;;
            *) say "A repository of the mode $mode does not hold a key."; exit 2 ;;
        esac
        if [ -d "$repo/data" ] && [ ! -s "$repo/config" ]; then
            printf '[repository]\nversion = 1\nsegments_per_dir = 1000\nmax_segment_size = 524288000\n' >"$repo/config"
            printf 'append_only = 0\nstorage_quota = 0\nadditional_free_space = 0\nid = %s\n' "$id" >>"$repo/config"
        fi
        run_borg key import "$repo" "$here/key.txt"
        say "The key is back in $repo."
        ;;
    *)
        target=${2:-restored}
        if [ -e "$target" ] && [ -n "$(ls -A -- "$target")" ]; then
            say "$target is not empty: name a folder that is, or that is not there yet."
            exit 2
        fi
        mkdir -p -- "$target"
        cd -- "$target"
        run_borg extract --bypass-lock "$repo::$1"
        say "All of $1 is in $PWD."
        ;;
esac
