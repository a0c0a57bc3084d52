#!/bin/sh
# run.sh setup|run|cleanup: what workload.toml says.
. "${0%/*}/../lib/nvme-loop.sh"
case $1 in
setup)
	load || exit
	mkdir -p $c/subsystems/$n && echo 1 >$c/subsystems/$n/attr_allow_any_host
	mkdir -p $c/subsystems/$n/namespaces/1 && echo -n /dev/ram0 >$c/subsystems/$n/namespaces/1/device_path
	echo 1 >$c/subsystems/$n/namespaces/1/enable
	mkdir -p $c/ports/1 && echo -n loop >$c/ports/1/addr_trtype
	[ -e $c/ports/1/subsystems/$n ] || ln -s $c/subsystems/$n $c/ports/1/subsystems/$n
	[ -e $c/ports/1/subsystems/$n ] ;;
run)
	s=0
	connect || s=1
	for d in /sys/class/nvme/nvme*; do
		[ -e $d/delete_controller ] || continue
		i=0
		while [ $i -lt 10 ] && ! [ -b /dev/${d##*/}n1 ]; do usleep 20000; i=$((i + 1)); done
		usleep 20000
		echo 1 >$d/delete_controller || s=1
	done
	exit $s ;;
cleanup) disconnect; : ;;
esac
