#!/bin/bash
# Records what a developer's machine sends to its disk: git clones a repository onto a fresh ext4,
# make builds it with gcc, twice: all of it, and once more after a header changed.
#
#     sudo scripts/record-build.sh OUT.trace.csv.gz [MODULES]
#
# The repository is made here: MODULES (default 300) C files with a header each and a history of
# some commits, so nothing is fetched. Needs Linux, root, and the Debian packages it names.
if [ $# -lt 1 ] || [ $# -gt 2 ]; then set -- ''; fi
out=$1 modules=${2:-300}
# shellcheck source=scripts/recording-disk.sh
. "$(dirname "$0")/recording-disk.sh"
[ -n "$out" ] || recording_usage
recording_needs mkfs.ext4:e2fsprogs git:git make:make gcc:gcc ar:binutils

origin=$work/origin
git_here() { git -C "$origin" -c user.name=recording -c user.email=recording@localhost "$@"; }

# A module: a header, and a source with functions that call the module before it.
module() {
  awk -v i="$1" -v revision="$2" -v folder="$origin/src" 'BEGIN {
    header = sprintf("%s/module%03d.h", folder, i)
    source = sprintf("%s/module%03d.c", folder, i)
    for (f = 0; f < 24; f++) printf "int module%03d_step%02d(int value);\n", i, f > header
    printf "#include <stdio.h>\n#include <string.h>\n#include \"common.h\"\n#include \"module%03d.h\"\n", i > source
    if (i > 0) printf "#include \"module%03d.h\"\n", i - 1 > source
    for (f = 0; f < 24; f++) {
      printf "int module%03d_step%02d(int value) {\n  char text[64];\n", i, f > source
      printf "  snprintf(text, sizeof text, \"%%d of module %d, revision %d\", value);\n", i, revision > source
      if (i > 0) printf "  value += module%03d_step%02d(value / 2);\n", i - 1, f > source
      printf "  return COMMON + value * %d + (int)strlen(text);\n}\n", (i * 31 + f * 7) % 101 > source
    }
  }'
}

git init -q -b main "$origin"
mkdir "$origin/src"
echo '#define COMMON 1' >"$origin/src/common.h"
printf 'int module%03d_step00(int);\nint main(void) { return module%03d_step00(1) & 1; }\n' \
  $((modules - 1)) $((modules - 1)) >"$origin/src/main.c"
cat >"$origin/Makefile" <<'MAKE'
objects = $(patsubst %.c,%.o,$(wildcard src/*.c))
CFLAGS = -O1 -g -MMD
program: $(objects)
	$(CC) -o $@ $^
-include $(objects:.o=.d)
MAKE
for revision in 1 2 3 4; do
  for ((i = 0; i < modules; i++)); do
    if ((revision == 1 || (i + revision) % 3 == 0)); then module "$i" "$revision"; fi
  done
  git_here add .
  git_here commit -q -m "revision $revision"
done
git_here gc -q

recording_begin "$out" 1GiB \
  "title=git clone, make, make again after a change" \
  "description=A developer at work: ext4 is made on an empty disk, git clones a repository of $((2 * modules + 3)) files onto it, make builds it with gcc and builds it again after a header that all files include was changed; then sync. Programs that do not sync leave the writing to the kernel, which does it late and in large pieces: few flushes, long runs of clusters." \
  "program=mkfs.ext4; mount; git clone; make; touch; make; sync; umount" \
  "tools=git $(git --version | cut -d' ' -f3), gcc $(gcc -dumpfullversion), make $(make --version | sed -n '1s/.* //p')" \
  "file-system=ext4, e2fsprogs $(dpkg-query -W -f '${Version}' e2fsprogs), defaults" \
  "through=$(recording_attached_through)" \
  "note=the loop device has no FUA: a FUA write of the file system is a write and a flush here"
recording_attach
mkfs.ext4 -q "$disk"
recording_mount ext4
git clone -q "file://$origin" "$mnt/project"
export TMPDIR=$mnt
make -s -j2 -C "$mnt/project"
sleep 6 # ext4 commits its journal every five seconds
echo '#define COMMON 2' >"$mnt/project/src/common.h"
make -s -j2 -C "$mnt/project"
sync -f "$mnt"
unset TMPDIR
recording_end
