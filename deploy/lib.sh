# shellcheck shell=bash
# What install.sh, upgrade.sh, rollback.sh, backup.sh and restore.sh share; they source it.

# For tests: another folder in the place of /. Nothing is started then, nobody is made, and all belongs to who calls.
ROOT=${PHPBORG_ROOT:-}
OPT=$ROOT/opt/phpborg
CONF=$ROOT/etc/phpborg
ENV_FILE=$CONF/env
DATA=$ROOT/var/lib/phpborg
DUMPS=$ROOT/var/backups/phpborg
UNITS=$ROOT/etc/systemd/system
SBIN=$ROOT/usr/local/sbin
ACCOUNT=phpborg GROUP=phpborg
if [ -n "$ROOT" ]; then ACCOUNT=$(id -un) GROUP=$(id -gn); fi
TREE=$(readlink -f "$(dirname "${BASH_SOURCE[0]}")/..") # that the calling script lies in
export PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin"

say() { echo "$*" >&2; }
die() {
    say "$*"
    exit 1
}

only_root() { [ "$(id -u)" -eq 0 ] || [ -n "$ROOT" ] || die "This is for root."; }
has_systemd() { [ -z "$ROOT" ] && [ -d /run/systemd/system ]; }
phpborg() { "$SBIN/phpborg" "$@"; }
in_env() { sed -n "s/^$1=//p" "$ENV_FILE" | tail -n 1; }

# --- Releases -----------------------------------------------------------------------------------

current_release() { readlink -e "$OPT/current" 2>/dev/null || true; }

# Of a clone git tells the commit; without it each one would be called 0.1.0, and no upgrade would happen.
need_git() {
    if [ -e "$TREE/.git" ] && ! command -v git >/dev/null; then "$TREE/scripts/install-packages" git; fi
}

# 0.1.0-0123456789ab, or where the tree is no git clone 0.1.0.
version_of_tree() {
    local number commit
    if [[ $TREE == "$OPT"/releases/* ]]; then
        basename "$TREE"
        return
    fi
    number=$(sed -n 's/^version = "\(.*\)"$/\1/p' "$TREE/pyproject.toml")
    if [ -e "$TREE/.git" ] && commit=$(git -c "safe.directory=$TREE" -C "$TREE" rev-parse --short=12 HEAD 2>/dev/null); then
        echo "$number-$commit"
    else
        echo "$number"
    fi
}

# The tree as it is committed; where it is no git clone, all of it but what `make` made there.
copy_tree() {
    if [ -e "$TREE/.git" ] && git -c "safe.directory=$TREE" -C "$TREE" rev-parse HEAD >/dev/null 2>&1; then
        git -c "safe.directory=$TREE" -C "$TREE" archive HEAD | tar -x -C "$1"
    else
        tar -c -C "$TREE" --exclude=./.venv --exclude=./.borg --exclude=./node_modules --exclude=./var \
            --exclude=./staticfiles --exclude=./static/vendor . | tar -x -C "$1" --no-same-owner
    fi
}

# Build the tree's release below $OPT/releases, beside the one that runs; its folder is $RELEASE then. Only root may change it.
build_release() {
    local version
    version=$(version_of_tree)
    RELEASE=$OPT/releases/$version
    [ ! -e "$RELEASE/.complete" ] || return 0
    say "Building the release $version."
    rm -rf "$RELEASE" # what a build that was cut off has left
    (
        umask 022
        mkdir -p "$RELEASE"
        copy_tree "$RELEASE"
        "$RELEASE/scripts/install-packages" deploy
        scratch=$(mktemp -d)
        trap 'rm -rf "$scratch"' EXIT
        unset DATABASE_URL REDIS_URL
        # Debian's Python: another one may lie where the services' user may not go.
        PHPBORG_DATA_DIR=$scratch make --silent -C "$RELEASE" PYTHON=/usr/bin/python3 setup >&2
        cd "$RELEASE"
        .venv/bin/python -m compileall -q accounts alerts backups jobs phpborg servers
        rm -rf node_modules
        touch .complete
    )
}

# One rename, so that there is a current release at every moment.
switch_to() {
    local before
    before=$(current_release)
    ln -sfn "$1" "$OPT/.current"
    mv -T "$OPT/.current" "$OPT/current"
    if [ -n "$before" ] && [ "$before" != "$1" ]; then
        ln -sfn "$before" "$OPT/.previous"
        mv -T "$OPT/.previous" "$OPT/previous"
    fi
    install -D -m 755 "$1/deploy/phpborg" "$SBIN/phpborg"
    install_units "$1"
}

# manage.py of another release than the current one: manage_of RELEASE COMMAND ...
manage_of() {
    local release=$1
    shift
    PHPBORG_RELEASE=$release "$release/deploy/phpborg" "$@"
}

# --- Services -----------------------------------------------------------------------------------

install_units() {
    local folder
    install -d "$UNITS"
    install -m 644 "$1"/deploy/systemd/phpborg*.{service,timer,target} "$UNITS/"
    for folder in "$1"/deploy/systemd/*.d; do
        install -D -m 644 -t "$UNITS/$(basename "$folder")" "$folder"/*.conf
    done
    if has_systemd; then systemctl daemon-reload; fi
}

# Nothing new begins, running jobs end first; Redis stays, and pages till the last.
stop_services() {
    if ! has_systemd; then
        say "systemd does not run here: whoever started phpBorg's processes must have stopped them."
        return 0
    fi
    say "Stopping phpBorg. Running jobs are finished first, which may take long: 'phpborg jobs --status running' shows them."
    systemctl stop 'phpborg-scheduler*'
    systemctl stop 'phpborg-worker@*' 'phpborg-serve*'
    systemctl stop 'phpborg-web*'
}

start_services() {
    if ! has_systemd; then
        say "systemd does not run here: start what the units in /etc/systemd/system start."
        return 0
    fi
    systemctl start phpborg.target
    wait_until_ready
}

# Whatever address it listens on: "localhost" is a name that it always answers to.
is_ready() {
    "$OPT/current/.venv/bin/python" -c '
import sys, urllib.request as u
u.build_opener(u.ProxyHandler({})).open(u.Request(sys.argv[1], headers={"Host": "localhost"}), timeout=5)' "$1" 2>/dev/null
}

# Where there is a web process on this machine, it says itself whether database and Redis are there, a worker and a
# scheduler too; where those are on other machines, only that it answers.
wait_until_ready() {
    local host port path=healthz tries=60
    is_active() { systemctl --quiet is-active "$@"; }
    if is_active phpborg-serve.service || { is_active phpborg-scheduler.service && is_active phpborg-worker@1.service; }; then
        path=readyz
    elif ! is_active phpborg-web.service; then
        return 0
    fi
    host=$(in_env PHPBORG_HOST)
    case $host in '' | 0.0.0.0 | ::) host=127.0.0.1 ;; *:*) host="[$host]" ;; esac
    port=$(in_env PHPBORG_PORT)
    until is_ready "http://$host:${port:-8000}/$path"; do
        [ $((tries -= 1)) -gt 0 ] || die "phpBorg does not say that it is ready. See: journalctl -u 'phpborg-*'"
        sleep 1
    done
}

# --- The database -------------------------------------------------------------------------------

# Write all of the database into the file $1, whole or not at all.
dump_to() {
    local part=$1.part
    (
        umask 077
        install -d -m 700 "$(dirname "$1")"
        phpborg dump_database | gzip >"$part"
        is_whole "$part" || die "The dump of the database is not whole."
        mv "$part" "$1"
    )
    say "The database is kept in $1"
}

is_whole() {
    gzip -t "$1" || return 1
    # mariadb-dump says at its end that it came to it; SQLite's file is checked by load_database.
    case $(gzip -dc "$1" 2>/dev/null | head -c 15 | tr -d '\0') in # which closes the pipe, and below systemd gzip says so
        'SQLite format 3') ;;
        *) gzip -dc "$1" | tail -n 1 | grep -q '^-- Dump completed' ;;
    esac
}

# Put the dump $1 in the place of the database, with the release $2.
load_from() { gzip -dc "$1" | manage_of "$2" load_database; }

stamp() { date -u +%Y-%m-%dT%H%M%SZ; }
