#!/bin/sh
# run.sh setup|run|cleanup: what workload.toml says.
case $1 in
setup) modprobe -a scsi_mod sd_mod sg scsi_debug && echo 0 >/sys/bus/pseudo/drivers/scsi_debug/max_luns; echo 1 >/sys/bus/pseudo/drivers/scsi_debug/max_luns ;;
run)
	s=0
	echo 1 >/sys/bus/pseudo/drivers/scsi_debug/add_host || s=1
	for d in /sys/class/scsi_disk/*/device/block/*; do
		[ -e "$d" ] && { dd if=/dev/${d##*/} of=/dev/null bs=4k count=2 status=none || s=1; }
	done
	for h in /sys/class/scsi_host/host*; do echo "- - -" >$h/scan || s=1; done
	for d in /sys/class/scsi_device/*/device; do [ -e $d ] && { echo 1 >$d/rescan || s=1; }; done
	echo -1 >/sys/bus/pseudo/drivers/scsi_debug/add_host || s=1
	exit $s
	;;
cleanup) : ;;
esac
