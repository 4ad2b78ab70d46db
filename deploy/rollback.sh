#!/bin/bash
# Goes back to the release before, or to a named one: what the newer one did to the database is taken back by its own
# migrations, so that nothing is lost that happened since. Where they cannot be taken back, --dump puts the database of
# just before the upgrade in its place instead. Run it out of the current release: /opt/phpborg/current/deploy.
set -euo pipefail
# shellcheck source=deploy/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

by_dump=
if [ "${1:-}" = --dump ]; then
    by_dump=1
    shift
fi
if [ $# -gt 1 ] || [[ ${1:-} == -* ]]; then die "usage: deploy/rollback.sh [--dump] [VERSION, as a folder of $OPT/releases is called]"; fi
only_root
before=$(current_release)
target=$(readlink -e "${1:+$OPT/releases/}${1:-$OPT/previous}" || true)
if [ -z "$before" ] || [ ! -e "$target/.complete" ]; then die "There is no release to go back to: ls $OPT/releases"; fi
[ "$target" != "$before" ] || die "$(basename "$target") is what runs here already."

# The last dump that upgrade.sh made before it went from the target to what runs now; their names sort by time.
older=
if [ -n "$by_dump" ]; then
    for file in "$DUMPS/upgrade-$(basename "$target")-to-$(basename "$before")"-*Z.gz; do
        if [ -e "$file" ]; then older=$file; fi
    done
    [ -n "$older" ] || die "There is no dump of before that upgrade in $DUMPS. Nothing is changed."
    is_whole "$older" || die "$older is not whole. Nothing is changed."
fi

take_back() {
    if [ -n "$older" ]; then
        load_from "$older" "$target"
    else
        manage_of "$before" migrate_back <<<"$known"
    fi
}

stop_services
dump=$DUMPS/rollback-$(basename "$before")-to-$(basename "$target")-$(stamp).gz
dump_to "$dump"
known=$(manage_of "$target" showmigrations --plan)
if ! take_back || ! manage_of "$target" check_release; then
    say "The database could not be taken back: putting back what was there."
    load_from "$dump" "$before"
    start_services
    die "Nothing has changed: $(basename "$before") runs on. With --dump the database of before the upgrade is taken, without what happened since."
fi
switch_to "$target"
start_services
say "phpBorg is $(basename "$target") again."
