#!/bin/bash
# Records what a real file system sends to its disk: mkfs.ext4 on a fresh device, then dpkg unpacking a Debian
# package onto it, down to the unmount. Writes a native trace (requests, flushes and times; no guest data).
#
#     sudo scripts/record-filesystem.sh OUT.trace.csv.gz [PACKAGE] [SIZE]
#
# PACKAGE (default perl-modules-5.36) is fetched with apt-get download and must have no preinst script, so that
# nothing of it runs. SIZE (default 1G) is the device's.
#
# How: nbdkit serves a disk in memory and logs each request (its log filter); nbdfuse shows the disk as a file; a
# loop device over that file carries the file system. The loop device is opened with direct I/O: a request of the
# file system then passes as it is, and is not merged or delayed by the page cache of the file beneath. A flush
# goes through as fsync. The loop device has no FUA, so the kernel sends a FUA write as a write and a flush.
# nbdfuse uses one connection, so that the log has one order.
#
# Needs: Linux, root, nbdkit, libnbd-bin (nbdfuse), util-linux, e2fsprogs, dpkg, apt, and Node 24 (or an
# installed clone). It cleans up what it made, also when it fails.
set -euo pipefail

if [ $# -lt 1 ] || [ $# -gt 3 ]; then
  sed -n '2,/^set /{/^#/p}' "$0" | cut -c3- >&2
  exit 2
fi
out=$(realpath -m "$1")
package=${2:-perl-modules-5.36}
size=${3:-1G}
here=$(cd "$(dirname "$0")" && pwd)
PATH=$here/../node_modules/.bin:/usr/sbin:/sbin:$PATH

if [ "$(id -u)" != 0 ]; then
  echo "record-filesystem: needs root, to attach a loop device and mount it" >&2
  exit 1
fi
for tool in nbdkit nbdfuse losetup mkfs.ext4 dpkg dpkg-deb apt-get node; do
  command -v "$tool" >/dev/null && continue
  echo "record-filesystem: $tool is missing: apt-get install nbdkit libnbd-bin util-linux e2fsprogs dpkg apt" >&2
  exit 1
done

work=$(mktemp -d)
loop= nbdkit_pid= nbdfuse_pid=
mkdir "$work/package" "$work/fuse" "$work/mnt"

detach() {
  if mountpoint -q "$work/mnt"; then umount "$work/mnt"; fi
  if [ -n "$loop" ]; then losetup -d "$loop"; loop=; fi
  # Detaching is asynchronous: the file is free once the loop device has let go of it.
  for _ in $(seq 50); do
    mountpoint -q "$work/fuse" || break
    umount "$work/fuse" 2>/dev/null && break
    sleep 0.1
  done
  if [ -n "$nbdfuse_pid" ]; then wait "$nbdfuse_pid" || true; nbdfuse_pid=; fi
  if [ -n "$nbdkit_pid" ]; then kill "$nbdkit_pid"; wait "$nbdkit_pid" || true; nbdkit_pid=; fi
}
trap 'detach || true; rm -rf "$work"' EXIT

wait_for() {
  for _ in $(seq 100); do
    [ -e "$1" ] && return
    sleep 0.05
  done
  echo "record-filesystem: $1 did not appear within 5 seconds" >&2
  exit 1
}

(cd "$work/package" && apt-get -q -o APT::Sandbox::User=root download "$package")
deb=$(echo "$work"/package/*.deb)
if dpkg-deb --ctrl-tarfile "$deb" | tar -t | grep -q '/preinst$'; then
  echo "record-filesystem: $package has a preinst script; take a package without one" >&2
  exit 1
fi

nbdkit --foreground --unix "$work/socket" --filter=log memory "$size" logfile="$work/log" &
nbdkit_pid=$!
wait_for "$work/socket"
nbdfuse --connections 1 "$work/fuse/disk" "nbd+unix:///?socket=$work/socket" &
nbdfuse_pid=$!
wait_for "$work/fuse/disk"
loop=$(losetup --find --show --direct-io=on "$work/fuse/disk")

mkfs.ext4 -q "$loop"
mount -t ext4 "$loop" "$work/mnt"
mkdir -p "$work"/mnt/var/lib/dpkg/{info,updates,triggers}
: >"$work/mnt/var/lib/dpkg/status"
dpkg --root="$work/mnt" --force-depends --unpack "$deb"
sync -f "$work/mnt"
detach

field() { dpkg-deb --field "$deb" "$1"; }
node "$here/record-convert.ts" "$work/log" "$out" \
  "title=mkfs.ext4, then dpkg unpacks $(field Package)" \
  "description=A real file system at work: ext4 is made on an empty disk, then dpkg unpacks a package of $(dpkg-deb --contents "$deb" | wc -l) files and directories onto it, with the fsync of each file that it insists on, down to the unmount. The file system lays its data out close together, so most writes are small and several share a cluster; the journal writes its blocks, flushes, writes the commit record and flushes again." \
  "program=mkfs.ext4; mount; dpkg --unpack; sync; umount" \
  "package=$(field Package) $(field Version) $(field Architecture)" \
  "file-system=ext4, e2fsprogs $(dpkg-query -W -f '${Version}' e2fsprogs), defaults" \
  "tool=nbdkit $(nbdkit --version | head -n 1 | cut -d' ' -f2) log filter, nbdfuse $(nbdfuse --version | sed -n '1s/.* //p'), loop device with direct I/O" \
  "script=scripts/record-filesystem.sh" \
  "kernel=$(uname -s) $(uname -r | cut -d- -f1)" \
  "recorded=$(date -u +%Y-%m-%d)" \
  "note=the loop device has no FUA: a FUA write of the file system is a write and a flush here"
