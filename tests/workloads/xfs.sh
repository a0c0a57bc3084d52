#!/bin/sh
# xfs.sh setup|run|cleanup: file operations on xfs, on a loop device over memory.
. "$(dirname "$0")/common.sh"

# 300 MB is the least that mkfs.xfs makes; the file is sparse.
case $1 in
setup) make_disk xfs 320M mkfs.xfs -q -f ;;
run) run_mix xfs "$top/xfs" ;;
cleanup) remove_disk xfs ;;
*) die "usage: $0 setup|run|cleanup" ;;
esac
