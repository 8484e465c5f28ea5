#!/bin/bash
# Records what PostgreSQL sends to the disk under ext4: a cluster is made, pgbench fills it and runs
# its TPC-B-like transactions from several clients, a checkpoint ends it.
#
#     sudo scripts/record-pgbench.sh OUT.trace.csv.gz [CLIENTS] [TRANSACTIONS]
#
# CLIENTS (default 4) run TRANSACTIONS (default 2000) each. The server runs as the user postgres, on
# a Unix socket alone. Needs Linux, root, and the Debian packages it names.
if [ $# -lt 1 ] || [ $# -gt 3 ]; then set -- ''; fi
out=$1 clients=${2:-4} transactions=${3:-2000}
# shellcheck source=scripts/recording-disk.sh
. "$(dirname "$0")/recording-disk.sh"
[ -n "$out" ] || recording_usage
binaries=$(find /usr/lib/postgresql -maxdepth 2 -name bin 2>/dev/null | sort -V | tail -n 1)
PATH=$PATH:$binaries
recording_needs mkfs.ext4:e2fsprogs initdb:postgresql pgbench:postgresql runuser:util-linux

as_postgres() { (cd / && runuser -u postgres -- env PATH="$PATH" "$@"); }
stop_server() {
  if [ -s "$mnt/data/postmaster.pid" ]; then as_postgres pg_ctl -D "$mnt/data" -m fast -w stop >/dev/null; fi
}
trap 'stop_server || true; recording_end || true; rm -rf "$work"' EXIT

recording_begin "$out" 1GiB \
  "title=PostgreSQL: initdb, then $clients pgbench clients commit $((clients * transactions)) transactions" \
  "description=A database server on a file system: ext4 is made on an empty disk, initdb makes a cluster, pgbench fills tables of scale 2 and $clients clients commit $transactions transactions each, down to the checkpoint at the end. A commit is a write to the log and an fdatasync; those of several clients share one. A log file is filled with zeroes before it is used, so that a commit changes no metadata of the file system and allocates nothing: most writes fall into clusters that are there." \
  "program=mkfs.ext4; mount; initdb; pgbench -i -s 2; pgbench -c $clients -t $transactions; pg_ctl stop; umount" \
  "database=PostgreSQL $(postgres --version | awk '{ print $3 }'), pgbench's TPC-B-like script; wal_segsize 1 MB, min_wal_size 48 MB, otherwise the defaults" \
  "file-system=ext4, e2fsprogs $(dpkg-query -W -f '${Version}' e2fsprogs), defaults" \
  "through=$(recording_attached_through)" \
  "note=the loop device has no FUA: a FUA write of the file system is a write and a flush here"
recording_attach
mkfs.ext4 -q "$disk"
recording_mount ext4
chmod 755 "$work"
install -d -o postgres -m 700 "$mnt/data"
install -d -o postgres "$work/socket-of-server"
as_postgres initdb -D "$mnt/data" --auth=trust --wal-segsize=1 >/dev/null
as_postgres pg_ctl -D "$mnt/data" -w -l "$mnt/data/log" \
  -o "-c listen_addresses='' -c unix_socket_directories=$work/socket-of-server -c min_wal_size=48MB" start >/dev/null
as_postgres pgbench -q -h "$work/socket-of-server" -i -s 2 postgres
as_postgres pgbench -h "$work/socket-of-server" -c "$clients" -t "$transactions" postgres
stop_server
recording_end
