#!/bin/sh
d=/sys/bus/pseudo/drivers/scsi_debug
case $1 in
setup) modprobe scsi_debug dev_size_mb=8 delay=1 && [ -w $d/add_host ] ;;
run)
	s=0
	echo 1 >$d/add_host || s=1
	echo 2 >$d/delay || s=1
	echo 1 >$d/delay || s=1
	echo -1 >$d/add_host || s=1
	exit $s ;;
cleanup) : ;;
esac
