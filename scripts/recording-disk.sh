# Sourced by the scripts that record: an empty disk whose every request is written down
# (`qcow2-bench record`), for a guest as an NBD export, for this machine as a block device.
#
#     recording_needs COMMAND:PACKAGE …      ends the script if it is not root or something is missing
#     recording_begin OUT SIZE KEY=VALUE …   starts recording; facts for the trace's header; sets $uri; of the disk
#                                            $work/disk.raw if the script made it, which is then of SIZE
#     recording_attach                       sets $disk, a block device
#     recording_mount FSTYPE                 mounts it at $mnt
#     recording_end                          unmounts, detaches, closes the trace
#
# How: nbdfuse shows the NBD export as a file, over one connection, so that there is one order of
# requests; a loop device over that file is the block device. It is opened with direct I/O: a
# request of the file system then passes as it is, and is not merged or delayed by the page cache of
# the file beneath. A flush goes through as fsync. The loop device has no FUA, so the kernel sends a
# FUA write as a write and a flush.
#
# The image beneath is raw with cache=unsafe: a flush is recorded and costs next to nothing, so the
# times are those of the programs. $work is a directory of the script's own. All that was made is
# taken away again however it ends.
# shellcheck shell=bash
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
PATH=$here/../node_modules/.bin:/usr/sbin:/sbin:$PATH
work=$(mktemp -d)
mnt=$work/mnt
disk='' uri='' recording_pid='' recording_nbdfuse_pid=''
mkdir "$mnt" "$work/fuse"
trap 'recording_end || true; rm -rf "$work"' EXIT

recording_fail() {
  echo "$(basename "$0"): $1" >&2
  exit 1
}

# Prints the comment at the head of the script: how it is used.
recording_usage() {
  sed -n '2,/^[^#]/{/^#/p}' "$0" | cut -c3- >&2
  exit 2
}

recording_needs() {
  local need
  [ "$(id -u)" = 0 ] || recording_fail "needs root, to attach a loop device and mount it"
  for need in node:nodejs nbdfuse:libnbd-bin fusermount3:fuse3 losetup:util-linux "$@"; do
    command -v "${need%%:*}" >/dev/null || recording_fail "${need%%:*} is missing: apt-get install ${need##*:}"
  done
}

recording_begin() {
  local out=$1 size=$2 fact facts=() create=()
  shift 2
  [ -e "$work/disk.raw" ] || create=(--create "$size")
  for fact in "$@" "script=scripts/$(basename "$0")" "kernel=$(uname -s) $(uname -r | cut -d- -f1)"; do
    facts+=(--fact "$fact")
  done
  node "$here/../src/cli/main.ts" record --image "$work/disk.raw" --format raw "${create[@]}" --cache unsafe \
    --socket "$work/socket" --trace "$out" --force "${facts[@]}" >"$work/uri" &
  recording_pid=$!
  recording_wait_for "$work/uri"
  uri=$(<"$work/uri")
}

# Waits until a file is there and not empty.
recording_wait_for() {
  local _
  for _ in $(seq 200); do
    [ -s "$1" ] && return
    sleep 0.05
  done
  recording_fail "$1 did not appear within 10 seconds"
}

recording_attach() {
  nbdfuse --connections 1 "$work/fuse/disk" "$uri" &
  recording_nbdfuse_pid=$!
  recording_wait_for "$work/fuse/disk"
  disk=$(losetup --find --show --direct-io=on "$work/fuse/disk")
}

recording_mount() {
  mount -t "$1" "$disk" "$mnt"
}

# The path between the programs and the recorder, for the trace's header.
recording_attached_through() {
  echo "nbdfuse $(nbdfuse --version | sed -n '1s/.* //p'), loop device with direct I/O"
}

recording_end() {
  local _
  if mountpoint -q "$mnt"; then umount "$mnt"; fi
  if [ -n "$disk" ]; then losetup -d "$disk"; disk=; fi
  # Detaching is asynchronous: the file is free once the loop device has let go of it.
  for _ in $(seq 100); do
    mountpoint -q "$work/fuse" || break
    umount "$work/fuse" 2>/dev/null && break
    sleep 0.1
  done
  if [ -n "$recording_nbdfuse_pid" ]; then wait "$recording_nbdfuse_pid" || true; recording_nbdfuse_pid=; fi
  if [ -n "$recording_pid" ]; then
    kill "$recording_pid"
    wait "$recording_pid" || recording_fail "the recording failed"
    recording_pid=
  fi
}
