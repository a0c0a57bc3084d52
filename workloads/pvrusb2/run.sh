#!/bin/sh
# run.sh setup|run|cleanup: what workload.toml says.
case $1 in
setup) modprobe pvrusb2 && rmmod pvrusb2 ;;
run)
	s=0
	modprobe pvrusb2 || s=1
	ls /sys/class/pvrusb2 >/dev/null || s=1
	rmmod pvrusb2 || s=1
	exit $s
	;;
cleanup) rmmod pvrusb2 2>/dev/null; : ;;
esac
