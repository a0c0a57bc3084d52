#!/bin/sh
# run.sh setup|run|cleanup: what workload.toml says.
f=/sys/kernel/debug/bluetooth/hci0/force_devcoredump
dismiss() { for i in /sys/class/devcoredump/devcd*/data; do [ -e "$i" ] && echo 1 >"$i"; done; }
case $1 in
setup)
	mountpoint -q /sys/kernel/debug || mount -t debugfs debugfs /sys/kernel/debug
	modprobe hci_vhci
	(exec 5<>/dev/vhci; exec sleep 1000000) >/dev/null 2>&1 </dev/null &
	n=0; while ! [ -e $f ] && [ $n -lt 100 ]; do n=$((n + 1)); sleep 0.1; done
	sleep 3
	ls -l $f
	;;
run)
	s=0
	printf '\002\000\000\000\000\000\000\000abcdefghijklmnop' >$f || s=1
	sleep 0.5
	dismiss
	sleep 0.2
	exit $s
	;;
cleanup) dismiss; : ;;
esac
