#!/bin/sh
# run.sh setup|run|cleanup: what workload.toml says.
export DM_DISABLE_UDEV=1
case $1 in
setup)
	modprobe -a dm-mod brd dm-mirror dm-snapshot dm-zero dm-delay dm-flakey dm-switch dm-unstripe dm-log-writes \
		dm-integrity dm-writecache dm-bufio || exit
	[ -b /dev/ram1 ]
	;;
run)
	s=0
	t() {
		dmsetup create t --noudevsync --table "$1" || { s=1; return; }
		dmsetup suspend t || s=1
		dmsetup resume t || s=1
		dd if=/dev/mapper/t of=/dev/null bs=4k count=4 status=none || s=1
		dmsetup status t >/dev/null || s=1
		dmsetup remove --noudevsync t || dmsetup remove --noudevsync t || s=1
	}
	t "0 2048 linear /dev/ram0 0"
	t "0 2048 striped 2 16 /dev/ram0 0 /dev/ram1 0"
	t "0 2048 zero"
	t "0 2048 delay /dev/ram0 0 0"
	t "0 2048 flakey /dev/ram0 0 60 0"
	t "0 2048 mirror core 2 64 nosync 2 /dev/ram0 0 /dev/ram1 0"
	t "0 2048 snapshot /dev/ram0 /dev/ram1 N 8"
	t "0 2048 switch 2 16 0 /dev/ram0 0 /dev/ram1 0"
	t "0 1024 unstriped 2 16 0 /dev/ram0 0"
	t "0 2048 log-writes /dev/ram0 /dev/ram1"
	exit $s
	;;
cleanup) dmsetup remove --noudevsync --force t 2>/dev/null; : ;;
*) sh "$0" setup && sh "$0" run ;;
esac
