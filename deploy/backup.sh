#!/bin/bash
# Backs up phpBorg itself: the database, or with --keys what opens it. The two belong into different places.
set -euo pipefail
# shellcheck source=deploy/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

usage() {
    cat >&2 <<TEXT
usage: deploy/backup.sh [FOLDER]         the whole database, into FOLDER ($DUMPS)
       deploy/backup.sh --keys FOLDER    /etc/phpborg/env and the data directory's keys: keep them where the database is not
TEXT
    exit 2
}

only_root
case ${1:-} in
    --keys)
        [ $# -eq 2 ] || usage
        file=$2/phpborg-keys-$(stamp).tar
        paths=("${ENV_FILE#/}")
        for secret in secret_key encryption_keys; do
            if [ -e "$DATA/$secret" ]; then paths+=("${DATA#/}/$secret"); fi
        done
        (
            umask 077
            tar -C / -cf "$file" "${paths[@]}"
        )
        say "Whoever has this file and the database has everything. It lies open: take it off this machine."
        ;;
    -*) usage ;;
    *)
        [ $# -le 1 ] || usage
        file=${1:-$DUMPS}/phpborg-$(basename "$(current_release)")-$(stamp).gz
        dump_to "$file"
        ;;
esac
echo "$file"
