#!/bin/sh
# ext4.sh setup|run|cleanup: file operations on ext4, on a loop device over memory.
. "$(dirname "$0")/common.sh"

case $1 in
setup) make_disk ext4 64M mkfs.ext4 -q -F ;;
run) run_mix ext4 "$top/ext4" ;;
cleanup) remove_disk ext4 ;;
*) die "usage: $0 setup|run|cleanup" ;;
esac
