#!/bin/bash
# Records what a guest sends to its disk: Debian boots in QEMU, installs a package, syncs and powers
# off.
#
#     sudo scripts/record-guest-boot.sh OUT.trace.csv.gz [PACKAGE]
#
# The guest is made by debootstrap (systemd, udev and Debian's cloud kernel) and written to an ext4
# disk of 2 GiB before the recording begins. It sees the disk as virtio-blk, which QEMU serves from
# the recorder over NBD with cache=writeback, so its flushes come as they are. PACKAGE: default
# perl-modules-5.36. No network in the guest. Needs Linux, root, about 3 GB of temporary space, and
# the Debian packages it names. QEMU emulates the processor (TCG), so that it runs everywhere; a
# boot then takes a minute or two.
if [ $# -lt 1 ] || [ $# -gt 2 ]; then set -- ''; fi
out=$1 package=${2:-perl-modules-5.36}
# shellcheck source=scripts/recording-disk.sh
. "$(dirname "$0")/recording-disk.sh"
[ -n "$out" ] || recording_usage
recording_needs mkfs.ext4:e2fsprogs debootstrap:debootstrap qemu-system-x86_64:qemu-system-x86 timeout:coreutils

root=$work/root
echo "making the guest …"
debootstrap --variant=minbase --include=systemd-sysv,udev,dbus,kmod,initramfs-tools,linux-image-cloud-amd64 \
  "$(. /etc/os-release && echo "$VERSION_CODENAME")" "$root" >"$work/debootstrap.log" 2>&1 ||
  recording_fail "debootstrap failed: $(tail -n 1 "$work/debootstrap.log")"
rm -rf "$root"/var/cache/apt/archives/*.deb
(cd "$root/srv" && apt-get -q -o APT::Sandbox::User=root download "$package" >/dev/null)
deb=$(basename "$root"/srv/*.deb)
cat >"$root/etc/systemd/system/recorded-work.service" <<UNIT
[Unit]
Description=What the recording is of
After=multi-user.target
[Service]
Type=oneshot
ExecStart=/usr/bin/dpkg --force-depends --install /srv/$deb
ExecStart=/bin/sync
ExecStart=/bin/systemctl --no-block poweroff
StandardOutput=journal+console
[Install]
WantedBy=multi-user.target
UNIT
ln -s ../recorded-work.service "$root/etc/systemd/system/multi-user.target.wants/"
echo guest >"$root/etc/hostname"
cp "$root"/boot/vmlinuz-* "$work/vmlinuz"
cp "$root"/boot/initrd.img-* "$work/initrd"
kernel=$(basename "$root"/boot/vmlinuz-*)
truncate -s 2G "$work/disk.raw"
mkfs.ext4 -q -F -d "$root" "$work/disk.raw"

recording_begin "$out" 2GiB \
  "title=Debian boots in QEMU, installs ${package} and powers off" \
  "description=A virtual machine from power on to power off: Debian's kernel and systemd boot from an ext4 disk that was installed before, dpkg installs a package, sync, power off. The disk held the system when the recording began; a replay begins with an empty one, as if each cluster were new to the image: so it shows what an overlay over a template gets to write, without what it copies. Flushes are the guest's own." \
  "program=boot; dpkg --install; sync; poweroff" \
  "guest=Debian $(cat "$root/etc/debian_version"), ${kernel#vmlinuz-}, systemd $(dpkg-query --admindir="$root/var/lib/dpkg" -W -f '${Version}' systemd), ext4" \
  "package=$(dpkg-deb --show --showformat '${Package} ${Version} ${Architecture}' "$root/srv/$deb")" \
  "through=QEMU $(qemu-system-x86_64 --version | sed -n '1s/.*version \([^ ]*\).*/\1/p'), NBD driver, virtio-blk, cache=writeback"
rm -rf "$root"
echo "booting it …"
timeout 900 qemu-system-x86_64 -accel tcg -m 1024 -smp 1 -nodefaults -no-reboot -display none \
  -serial "file:$work/console" -kernel "$work/vmlinuz" -initrd "$work/initrd" \
  -append 'root=/dev/vda rw console=ttyS0 panic=1' \
  -drive "file=$uri,format=raw,if=virtio,cache=writeback,discard=unmap" ||
  recording_fail "the guest did not power off"
grep -q 'Setting up' "$work/console" || recording_fail "the guest did not install: $(tail -n 3 "$work/console")"
recording_end
