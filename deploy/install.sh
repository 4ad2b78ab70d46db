#!/bin/bash
# Installs phpBorg on one Debian 12 machine, or one part of it on one of several (deploy/README.md). It may be run again:
# what is there stays. A newer tree on a machine that has an older release is an upgrade, and goes the way of upgrade.sh
# before anything else.
set -euo pipefail
# shellcheck source=deploy/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

usage() {
    cat >&2 <<'TEXT'
usage: deploy/install.sh [--embedded] [--parts web,worker,scheduler] [--workers N] [--places LIST] [--site URL] [--mounts]

  --embedded     one unit, SQLite, and the Redis that phpBorg brings; otherwise Debian's MariaDB and Redis
  --parts LIST   what of phpBorg runs on this machine (all of it); for several machines put /etc/phpborg/env here first
  --workers N    how many workers (3, or as many as there are)
  --places LIST  which of WORKER_PLACES the workers of this machine serve (all), separated by commas
  --site URL     the address that people use (http://localhost:8000); with https:// nginx is put in front,
                 without it the web process listens on that port, of this machine alone
  --mounts       archives can be mounted on this machine, for which workers and scheduler give up most of their hardening

With PHPBORG_ADMIN_PASSWORD in its environment it also does what the first run asks for: `manage.py setup --from-env`.
TEXT
    exit 2
}

embedded='' parts=web,worker,scheduler workers='' places='' site=http://localhost:8000 mounts='' changed=() words=$#
while [ $# -gt 0 ]; do
    case $1 in
        --embedded) embedded=1 ;;
        --mounts) mounts=1 ;;
        --parts | --workers | --places | --site)
            [ $# -gt 1 ] || usage
            declare "${1#--}=$2"
            shift
            ;;
        *) usage ;;
    esac
    shift
done
[[ $workers =~ ^[0-9]*$ ]] || die "--workers takes a number."
[[ $site =~ ^(https://[A-Za-z0-9.-]+|http://[A-Za-z0-9.-]+(:[0-9]+)?)$ ]] || die "--site takes an address, as https://backup.example.org."
[[ $places =~ ^[A-Za-z0-9_,-]*$ ]] || die "--places takes names, separated by commas."
for part in ${parts//,/ }; do
    case $part in web | worker | scheduler) ;; *) die "There is no part $part: web, worker, scheduler." ;; esac
done
only_root

has_part() { [[ ,$parts, == *,$1,* ]]; }
packages() { "$TREE/scripts/install-packages" "$@"; }

# Where there is no systemd, as in a container, Debian's own scripts start a daemon.
start_daemon() {
    if has_systemd; then
        systemctl --quiet enable --now "$1.service"
    else
        service "$1" status >/dev/null 2>&1 || service "$1" start >&2
    fi
}

random_key() { head -c "$1" /dev/urandom | base64 -w 0 | tr '+/' '-_'; }

make_user() {
    getent passwd "$ACCOUNT" >/dev/null ||
        useradd --system --user-group --home-dir "$DATA" --no-create-home --shell /usr/sbin/nologin "$ACCOUNT"
    install -d -o "$(id -un)" -g "$GROUP" -m 750 "$CONF"
    install -d -o "$ACCOUNT" -g "$GROUP" -m 700 "$DATA"
    local secret
    for secret in secret_key encryption_keys; do # put back from a backup, before there was the user
        # The folder is theirs, so what lies there under that name may be a link: never follow it.
        if [ -e "$DATA/$secret" ]; then chown -h "$ACCOUNT:$GROUP" "$DATA/$secret"; fi
    done
}

write_env() {
    if [ -e "$ENV_FILE" ]; then
        chmod 600 "$ENV_FILE"
        return
    fi
    (
        umask 077
        {
            echo "# Written by deploy/install.sh. All that can stand here is in $OPT/current/deploy/env.example."
            echo "SITE_URL=$site"
            if [[ $site == http://*:* ]]; then echo "PHPBORG_PORT=${site##*:}"; fi
            echo "PHPBORG_DATA_DIR=$DATA"
            echo "SECRET_KEY=$(random_key 48)"
            echo "# Whoever loses these loses every passphrase: deploy/backup.sh --keys"
            echo "ENCRYPTION_KEYS=$(random_key 32)"
            if [ -z "$embedded" ]; then
                echo "DATABASE_URL=mysql://phpborg@/phpborg?unix_socket=/run/mysqld/mysqld.sock"
                echo "REDIS_URL=unix:///run/phpborg-redis/redis.sock?db=0"
            else
                echo "PHPBORG_WORKERS=${workers:-3}"
            fi
        } >"$ENV_FILE.new"
        mv "$ENV_FILE.new" "$ENV_FILE"
    )
}

# The database's user is the system's user: there is no password.
make_database() {
    case $(in_env DATABASE_URL) in
        *unix_socket=/run/mysqld/*)
            packages database
            start_daemon mariadb
            mariadb <<'SQL'
CREATE DATABASE IF NOT EXISTS phpborg CHARACTER SET utf8mb4;
CREATE USER IF NOT EXISTS phpborg@localhost IDENTIFIED VIA unix_socket;
GRANT ALL ON phpborg.* TO phpborg@localhost;
SQL
            ;;
        mysql://*) packages database-client ;; # to dump it before an upgrade
    esac
    case $(in_env REDIS_URL) in
        *phpborg-redis*) packages redis ;;
    esac
}

# The units that run on this machine.
wanted_units() {
    case $(in_env REDIS_URL) in
        '')
            echo phpborg-serve.service
            return
            ;;
        *phpborg-redis*) echo phpborg-redis.service ;;
    esac
    if has_part web; then echo phpborg-web.service; fi
    if has_part scheduler; then echo phpborg-scheduler.service; fi
    # Nobody says how many: as many as there are.
    if has_part worker && { [ -n "$workers" ] || ! compgen -G "$UNITS/phpborg.target.wants/phpborg-worker@*" >/dev/null; }; then
        seq -f 'phpborg-worker@%g.service' "${workers:-3}"
    fi
}

# What runs already gets a drop-in when it is started anew: drop_in UNIT FILE <TEXT
drop_in() {
    local file=$UNITS/$1.service.d/$2
    install -D -m 644 /dev/stdin "$file.new"
    if cmp --silent "$file.new" "$file"; then
        rm "$file.new"
    else
        mv "$file.new" "$file"
        changed+=("${1/@/@*}.service")
    fi
}

serve_places() {
    drop_in phpborg-worker@ 20-places.conf <<TEXT
[Service]
ExecStart=
ExecStart=$OPT/current/deploy/run worker ${places//,/ }
TEXT
}

allow_mounts() {
    packages mounts
    local unit
    for unit in phpborg-worker@ phpborg-scheduler phpborg-serve; do
        drop_in "$unit" 50-mounts.conf <"$RELEASE/deploy/systemd/mounts.conf"
    done
}

make_proxy() {
    local name=${site#https://} tls=$CONF/tls port
    name=${name%%:*}
    port=$(in_env PHPBORG_PORT)
    packages proxy
    if [ ! -e "$tls/key.pem" ]; then
        install -d -m 700 "$tls"
        (
            umask 077
            openssl req -x509 -newkey rsa:3072 -noenc -days 365 -subj "/CN=$name" -addext "subjectAltName=DNS:$name" \
                -keyout "$tls/key.pem" -out "$tls/cert.pem" 2>/dev/null
        )
        say "$tls/cert.pem is signed by itself: put a real certificate and its key there."
    fi
    sed -e "s/backup\.example\.org/$name/" -e "s/127\.0\.0\.1:8000/127.0.0.1:${port:-8000}/" \
        "$RELEASE/deploy/nginx/phpborg.conf" >/etc/nginx/sites-available/phpborg.conf
    ln -sfn ../sites-available/phpborg.conf /etc/nginx/sites-enabled/phpborg.conf
    nginx -q -t
    start_daemon nginx
    if has_systemd; then systemctl reload nginx.service; fi
}

first_run() {
    local said
    if [ -n "${PHPBORG_ADMIN_PASSWORD:-}" ]; then
        phpborg setup --from-env
    elif said=$(phpborg setup 2>&1); then
        echo "$said"
    else
        case $said in
            *"There are accounts already"*) say "There are accounts already: log in at $(in_env SITE_URL)." ;;
            *) die "$said" ;;
        esac
    fi
}

need_git
before=$(current_release)
if [ -n "$before" ] && [ "$(basename "$before")" != "$(version_of_tree)" ]; then
    say "$(basename "$before") is installed here: upgrading it."
    "$TREE/deploy/upgrade.sh"
    [ "$words" -gt 0 ] || exit 0
fi

make_user
build_release
write_env
make_database
switch_to "$RELEASE"
if [ -n "$places" ]; then serve_places; fi
if [ -n "$mounts" ]; then allow_mounts; fi
if has_part web; then
    phpborg migrate --verbosity 0
else # a worker that finds no database would be started again and again, and nobody told
    phpborg check_release || die "The machine with the web process is installed first, and /etc/phpborg/env must lead to the same database."
fi
if has_systemd; then
    mapfile -t units < <(wanted_units)
    if has_part web; then units+=(phpborg-backup.timer); fi
    systemctl daemon-reload
    systemctl --quiet enable phpborg.target "${units[@]}"
    if has_part web; then systemctl start phpborg-backup.timer; fi
    # Without waiting: a worker ends its job first.
    if [ ${#changed[@]} -gt 0 ]; then systemctl --no-block try-restart "${changed[@]}"; fi
fi
start_services
if [[ $site == https://* ]] && has_part web; then make_proxy; fi
say "phpBorg $(basename "$RELEASE") is installed. 'phpborg' is its manage.py; deploy/README.md tells the rest."
if has_part web; then first_run; fi
