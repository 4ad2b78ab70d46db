#!/bin/bash
# Backs up phpBorg itself: the database, or with --keys what opens it. The two belong into different places.
set -euo pipefail
# shellcheck source=deploy/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

usage() {
    cat >&2 <<TEXT
usage: deploy/backup.sh [--keep-days N] [FOLDER]    the whole database, into FOLDER ($DUMPS);
                                                    then its dumps there that are older than N days are deleted
       deploy/backup.sh --keys FOLDER               /etc/phpborg/env and the data directory's keys: keep them where the
                                                    database is not
TEXT
    exit 2
}

keep_days=
if [ "${1:-}" = --keep-days ]; then
    [[ ${2:-} =~ ^[1-9][0-9]*$ ]] || usage
    keep_days=$2
    shift 2
fi
only_root
case ${1:-} in
    --keys)
        if [ $# -ne 2 ] || [ -n "$keep_days" ]; then usage; fi
        file=$2/phpborg-keys-$(stamp).tar
        paths=("${ENV_FILE#"$ROOT"/}")
        for secret in secret_key encryption_keys; do
            if [ -e "$DATA/$secret" ]; then paths+=("${DATA#"$ROOT"/}/$secret"); fi
        done
        (
            umask 077
            tar -C "$ROOT/" -cf "$file" "${paths[@]}"
        )
        say "Whoever has this file and the database has everything. It lies open: take it off this machine."
        ;;
    -*) usage ;;
    *)
        [ $# -le 1 ] || usage
        file=${1:-$DUMPS}/phpborg-$(basename "$(current_release)")-$(stamp).gz
        dump_to "$file"
        # Only after a new one that is whole, and only what this script has written.
        if [ -n "$keep_days" ]; then
            find "$(dirname "$file")" -maxdepth 1 -type f -name 'phpborg-*Z.gz' -mtime "+$((keep_days - 1))" -delete
        fi
        ;;
esac
echo "$file"
