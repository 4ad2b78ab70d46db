#!/bin/bash
# Goes back to the release before, or to a named one: what the newer one did to the database is taken back by its own
# migrations, so that nothing is lost that happened since. Run it out of the current release: /opt/phpborg/current/deploy.
set -euo pipefail
# shellcheck source=deploy/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

[ $# -le 1 ] || die "usage: deploy/rollback.sh [VERSION, as a folder of $OPT/releases is called]"
only_root
before=$(current_release)
target=$(readlink -f "${1:+$OPT/releases/}${1:-$OPT/previous}" || true)
if [ -z "$before" ] || [ ! -e "$target/.complete" ]; then die "There is no release to go back to: ls $OPT/releases"; fi
[ "$target" != "$before" ] || die "$(basename "$target") is what runs here already."

stop_services
dump=$DUMPS/before-back-to-$(basename "$target")-$(stamp).gz
dump_to "$dump"
known=$(manage_of "$target" showmigrations --plan)
if ! manage_of "$before" migrate_back <<<"$known"; then
    say "The database could not be taken back: putting back what was there."
    load_from "$dump" "$before"
    start_services
    die "Nothing has changed: $(basename "$before") runs on."
fi
switch_to "$target"
start_services
say "phpBorg is $(basename "$target") again."
