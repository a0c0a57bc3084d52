#!/bin/sh
# run.sh setup|run|cleanup: what workload.toml says.
case $1 in
setup) modprobe -a bcache brd; echo "modprobe: $?"; [ -b /dev/ram1 ] || { ls -l /dev/ram* /dev/loop*; lsmod; dmesg | tail -n 8; exit 1; } ;;
run)
	s=0
	for x in b:0 c:1; do dd if=${0%/*}/bcache-${x%:*}.sb of=/dev/ram${x#*:} bs=4k seek=1 conv=fsync,notrunc status=none || s=1; done
	echo /dev/ram1 >/sys/fs/bcache/register || s=1
	echo /dev/ram0 >/sys/fs/bcache/register || s=1
	i=0
	while [ $i -lt 5 ] && ! [ -b /dev/bcache0 ]; do usleep 100000; i=$((i + 1)); done
	b=/sys/block/ram0/bcache
	[ -d $b ] || { dmesg | tail -n 6; exit 1; }
	echo writeback >$b/cache_mode || s=1
	dd if=/dev/zero of=/dev/bcache0 bs=4k count=4 conv=fsync status=none || s=1
	dd if=/dev/bcache0 of=/dev/null bs=64k count=4 status=none || s=1
	echo 1 >$b/detach || s=1
	sh "$0" cleanup
	exit $s
	;;
cleanup)
	for x in /sys/fs/bcache/*-*/; do [ -e $x/stop ] && echo 1 >$x/stop; done
	[ -e /sys/block/ram0/bcache/stop ] && echo 1 >/sys/block/ram0/bcache/stop
	i=0
	while [ $i -lt 20 ] && { [ -e /sys/block/ram0/bcache ] || [ -e /sys/block/ram1/bcache ]; }; do usleep 100000; i=$((i + 1)); done
	dd if=/dev/zero of=/dev/ram0 bs=4k count=8 conv=fsync status=none; dd if=/dev/zero of=/dev/ram1 bs=4k count=8 conv=fsync status=none
	: ;;
esac
