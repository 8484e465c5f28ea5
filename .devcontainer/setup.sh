#!/usr/bin/env bash
# Installs the programs that the tests compare with; the list is that of `.ci/run`.
set -euo pipefail
packages=$(node --input-type=module -e '
  import { missingPackages } from "./scripts/system-peers.mjs";
  console.log(missingPackages().join(" "));
')
[[ -n $packages ]] || exit 0
apt-get update -qq
# shellcheck disable=SC2086 # a list of words
DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $packages
