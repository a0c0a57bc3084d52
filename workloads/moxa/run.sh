#!/bin/sh
# run.sh setup|run|cleanup: what workload.toml says.
case $1 in
setup) modprobe moxa && modprobe -r moxa ;;
run)
	s=0
	modprobe moxa || s=1
	cat /proc/tty/drivers >/dev/null || s=1
	[ $s = 1 ] || modprobe -r moxa || s=1
	cat /proc/tty/drivers >/dev/null || s=1
	exit $s
	;;
cleanup) modprobe -r moxa; : ;;
esac
