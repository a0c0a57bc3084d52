#!/bin/sh
# run.sh setup|run|cleanup: what workload.toml says.
case $1 in
setup)
	[ -e /proc/sys/dev/parport/parport0 ] || modprobe parport_pc io=0x378 irq=7
	modprobe walkera0701 && rmmod walkera0701
	cat /proc/sys/dev/parport/parport0/irq
	;;
run)
	s=0
	modprobe walkera0701 || s=1
	rmmod walkera0701 || s=1
	exit $s
	;;
cleanup) rmmod walkera0701 2>/dev/null; : ;;
esac
