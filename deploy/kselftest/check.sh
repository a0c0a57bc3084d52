#!/bin/sh
# Whether this kernel can be injected into, and calls the hooks.
cd "$(dirname "$0")" || exit 1
. ./common.sh

begin
echo "1..2"
comment "$work/check"
test_result 0 "the kernel has what the injector needs"
# A run ends with an error if an allocation of its own does not reach each hook. Nothing fails in it.
"$injector" --dry-run --quiet -- true >"$work/run" 2>&1
status=$?
comment "$work/run"
test_result "$status" "the hooks are called"
finish
