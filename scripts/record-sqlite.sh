#!/bin/bash
# Records what SQLite sends to the disk under ext4 while it commits: a shop's orders, one
# transaction each.
#
#     sudo scripts/record-sqlite.sh OUT.trace.csv.gz wal|rollback [TRANSACTIONS]
#
# `wal` keeps a write-ahead log, `rollback` a journal that is deleted at each commit, SQLite's
# default. Both with synchronous=FULL: a transaction is durable when it is acknowledged.
# TRANSACTIONS: default 3000. Needs Linux, root, and the Debian packages it names.
if [ $# -lt 2 ] || [ $# -gt 3 ]; then set -- '' ''; fi
out=$1 mode=$2 transactions=${3:-3000}
# shellcheck source=scripts/recording-disk.sh
. "$(dirname "$0")/recording-disk.sh"

case $mode in
  wal)
    journal=wal name="a write-ahead log"
    way="A commit appends its pages to the log and syncs the log alone; every thousand pages a checkpoint carries them into the database. While the log grows, ext4 has to commit its journal at each sync as well."
    ;;
  rollback)
    journal=delete name="a rollback journal"
    way="A commit makes a journal file, writes the old pages there and syncs it, and its directory, then writes the database in place, syncs it, and deletes the journal: each step waits for the one before."
    ;;
  *) recording_usage ;;
esac
recording_needs mkfs.ext4:e2fsprogs sqlite3:sqlite3

# Pages that a transaction touches: the end of the table, a place in the middle of the index, one
# older order.
orders() {
  awk -v n="$1" 'BEGIN {
    for (i = 1; i <= n; i++) {
      who = (i * 7919) % 1009
      printf "BEGIN; INSERT INTO orders (customer, item, note) VALUES (%d, %d, hex(zeroblob(%d)));", who, i % 97, 40 + i % 300
      printf " UPDATE orders SET state = state + 1 WHERE id = %d; COMMIT;\n", 1 + (i * 104729) % 7907 % i
    }
  }'
}

recording_begin "$out" 1GiB \
  "title=SQLite commits $transactions transactions with $name" \
  "description=A database on a file system: ext4 is made on an empty disk, then SQLite commits $transactions small transactions, one after another, each durable when it is acknowledged. $way" \
  "program=mkfs.ext4; mount; sqlite3 with journal_mode=$journal, synchronous=FULL; umount" \
  "database=SQLite $(sqlite3 --version | cut -d' ' -f1), pages of 4096 bytes" \
  "file-system=ext4, e2fsprogs $(dpkg-query -W -f '${Version}' e2fsprogs), defaults" \
  "through=$(recording_attached_through)" \
  "note=the loop device has no FUA: a FUA write of the file system is a write and a flush here"
recording_attach
mkfs.ext4 -q "$disk"
recording_mount ext4
sqlite3 "$mnt/shop.db" >/dev/null <<SQL
PRAGMA page_size = 4096;
PRAGMA journal_mode = $journal;
PRAGMA synchronous = FULL;
CREATE TABLE orders (id INTEGER PRIMARY KEY, customer INTEGER, item INTEGER, state INTEGER DEFAULT 0, note TEXT);
CREATE INDEX orders_of ON orders (customer, item);
$(orders "$transactions")
SQL
recording_end
