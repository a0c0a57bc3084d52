#!/bin/sh
# run.sh setup|run|cleanup: what workload.toml says.
case $1 in
setup) modprobe -a md-mod raid0 raid1 raid10 raid456 brd && [ -b /dev/ram3 ] ;;
run)
	s=0
	t() {
		l=$1; shift
		mdadm --create /dev/md9 --run --assume-clean --homehost=x --name=t -u 11111111:22222222:33333333:44444444 -e 1.2 --level=$l "$@" </dev/null 2>/dev/null || s=1
		dd if=/dev/md9 of=/dev/null bs=4k count=4 status=none || s=1
		dd if=/dev/zero of=/dev/md9 bs=4k count=4 conv=fsync status=none || s=1
		case $l in
		0) ;;
		*) mdadm -q /dev/md9 --fail /dev/ram1 && mdadm -q /dev/md9 --remove /dev/ram1 && mdadm -q /dev/md9 --add /dev/ram1 || s=1 ;;
		esac
		mdadm -q --stop /dev/md9 || { usleep 200000; mdadm -q --stop /dev/md9 || s=1; }
	}
	t 1 -n 2 -b internal /dev/ram0 /dev/ram1
	t 0 -n 2 -c 16 /dev/ram0 /dev/ram1
	t 10 -n 4 -b none -c 16 /dev/ram0 /dev/ram1 /dev/ram2 /dev/ram3
	t 5 -n 3 -b none -c 16 /dev/ram0 /dev/ram1 /dev/ram2
	exit $s
	;;
cleanup) mdadm -q --stop /dev/md9 2>/dev/null; : ;;
esac
