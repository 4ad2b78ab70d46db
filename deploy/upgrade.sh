#!/bin/bash
# Upgrades this machine to the release that this script lies in. The old one stays: rollback.sh goes back to it.
set -euo pipefail
# shellcheck source=deploy/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

[ $# -eq 0 ] || die "usage: deploy/upgrade.sh, out of the tree of the newer release"
only_root
before=$(current_release)
[ -n "$before" ] || die "Nothing is installed here: deploy/install.sh."

need_git
build_release # while the old one still works
if [ "$before" = "$RELEASE" ]; then
    say "$(basename "$RELEASE") is what runs here already."
    exit 0
fi
if ! manage_of "$RELEASE" check_release; then
    die "Nothing has changed. To an older release goes $OPT/current/deploy/rollback.sh."
fi
stop_services
dump=$DUMPS/upgrade-$(basename "$before")-to-$(basename "$RELEASE")-$(stamp).gz
dump_to "$dump"
say "Migrating the database."
if ! manage_of "$RELEASE" migrate --verbosity 0; then
    say "The database could not be migrated: putting back what was there."
    load_from "$dump" "$before"
    start_services
    die "Nothing has changed: $(basename "$before") runs on."
fi
switch_to "$RELEASE"
start_services
say "phpBorg is $(basename "$RELEASE") now. Back to $(basename "$before"): $OPT/current/deploy/rollback.sh"
