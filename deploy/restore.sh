#!/bin/bash
# Puts a backup of phpBorg's database (backup.sh) in the place of what is there. The release must be that of the backup, or
# a newer one; the keys must be those of then: on a new machine unpack them before install.sh (deploy/README.md).
set -euo pipefail
# shellcheck source=deploy/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

[ $# -eq 1 ] || die "usage: deploy/restore.sh FILE"
only_root
is_whole "$1" || die "$1 is not whole. Nothing is changed."
release=$(current_release)
[ -n "$release" ] || die "Nothing is installed here: deploy/install.sh."

stop_services
dump=$DUMPS/before-restore-$(stamp).gz
dump_to "$dump"
# The audit trail is chained under ENCRYPTION_KEYS: it proves that the keys are those of the backup, and that it is whole.
if ! { load_from "$1" "$release" && phpborg check_release && phpborg migrate --verbosity 0 && phpborg verify_audit; }; then
    say "This backup does not fit: putting back what was there."
    load_from "$dump" "$release"
    start_services
    die "Nothing has changed."
fi
start_services
cat >&2 <<'TEXT'
The database is restored. What happened after that backup it does not know:
  - archives made since then are strange to it: their repositories are frozen until somebody has looked (Repositories);
  - jobs that ran then are found dead, and tried again; plans that are overdue run now;
  - on a new machine the listings of archives are missing: "All listings" on each repository's page reads them again.
TEXT
