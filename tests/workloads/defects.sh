#!/bin/sh
# defects.sh [setup|run|cleanup]: writes to the files of injector_defects.ko, whose paths don't survive failed
# allocations (tests/module/injector_defects_main.c); without a word all three. Which files, and in what order, is in
# INJECTOR_DEFECTS: names with spaces between them, repeated as you like. Default: all of them, sorted.
# Exit status of run: 0 when all writes worked, else 1.
. "$(dirname "$0")/common.sh"

defects=/sys/kernel/debug/injector_defects

setup() {
	mounted /sys/kernel/debug || mount -t debugfs debugfs /sys/kernel/debug || die "can't mount debugfs"
	[ -d /sys/module/injector_defects ] || insmod /lib/modules/injector_defects.ko || die "can't load the module"
	[ -d "$defects" ] || die "the module is loaded and there is no $defects"
}

# Each path twice in a row: some failures show at the next call only. The shell's own echo makes one write() each.
run() {
	names=$INJECTOR_DEFECTS
	if [ -z "$names" ]; then
		for path in "$defects"/*; do
			names="$names ${path##*/}"
		done
	fi
	status=0
	for name in $names; do
		echo 1 >"$defects/$name" || status=1
		echo 1 >"$defects/$name" || status=1
	done
	return $status
}

case $1 in
setup) setup ;;
run) run ;;
# The module stays: after a defect has struck it can't be unloaded.
cleanup) ;;
'')
	setup
	run
	;;
*) die "usage: $0 [setup|run|cleanup]" ;;
esac
