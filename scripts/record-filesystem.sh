#!/bin/bash
# Records what a real file system sends to its disk: it is made on an empty device, then dpkg
# unpacks a Debian package onto it, down to the unmount.
#
#     sudo scripts/record-filesystem.sh OUT.trace.csv.gz [ext4|btrfs|xfs] [PACKAGE] [SIZE]
#
# PACKAGE (default perl-modules-5.36) is fetched with apt-get download and must have no preinst
# script, so that nothing of it runs. SIZE (default 1GiB) is the device's. Needs Linux, root, and
# the Debian packages it names.
if [ $# -lt 1 ] || [ $# -gt 4 ]; then set -- ''; fi
out=$1 type=${2:-ext4} package=${3:-perl-modules-5.36} size=${4:-1GiB}
# shellcheck source=scripts/recording-disk.sh
. "$(dirname "$0")/recording-disk.sh"
[ -n "$out" ] || recording_usage

case $type in
  ext4) progs=e2fsprogs quiet=-q ;;
  btrfs) progs=btrfs-progs quiet=-q ;;
  xfs) progs=xfsprogs quiet=-q ;;
  *) recording_usage ;;
esac
recording_needs "mkfs.$type:$progs" dpkg:dpkg apt-get:apt

mkdir "$work/package"
(cd "$work/package" && apt-get -q -o APT::Sandbox::User=root download "$package")
deb=$(echo "$work"/package/*.deb)
if dpkg-deb --ctrl-tarfile "$deb" | tar -t | grep -q '/preinst$'; then
  recording_fail "$package has a preinst script; take a package without one"
fi
field() { dpkg-deb --field "$deb" "$1"; }
files=$(dpkg-deb --contents "$deb" | wc -l)

case $type in
  ext4) way="The file system lays its data out close together, so most writes are small and several share a cluster; the journal writes its blocks, flushes, writes the commit record and flushes again." ;;
  btrfs) way="The file system never writes in place: each commit writes new trees, all metadata twice (DUP), flushes, and then writes the superblocks." ;;
  xfs) way="The file system spreads directories over its allocation groups and logs its metadata: a commit is a write to the log between two flushes, the metadata itself is written much later." ;;
esac

recording_begin "$out" "$size" \
  "title=mkfs.$type, then dpkg unpacks $(field Package)" \
  "description=A real file system at work: $type is made on an empty disk, then dpkg unpacks a package of $files files and directories onto it, with the fsync of each file that it insists on, down to the unmount. $way" \
  "program=mkfs.$type; mount; dpkg --unpack; sync; umount" \
  "package=$(field Package) $(field Version) $(field Architecture)" \
  "file-system=$type, $progs $(dpkg-query -W -f '${Version}' $progs), defaults" \
  "through=$(recording_attached_through)" \
  "note=the loop device has no FUA: a FUA write of the file system is a write and a flush here"
recording_attach
"mkfs.$type" $quiet "$disk"
recording_mount "$type"
mkdir -p "$mnt"/var/lib/dpkg/{info,updates,triggers}
: >"$mnt/var/lib/dpkg/status"
dpkg --root="$mnt" --force-depends --unpack "$deb"
sync -f "$mnt"
recording_end
