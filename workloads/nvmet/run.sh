#!/bin/sh
# run.sh setup|run|cleanup: what workload.toml says.
. "${0%/*}/../lib/nvme-loop.sh"
case $1 in
setup) load ;;
run)
	s=0
	mkdir $c/subsystems/$n || s=1
	echo 1 >$c/subsystems/$n/attr_allow_any_host || s=1
	echo -n 0123456789 >$c/subsystems/$n/attr_serial || s=1
	mkdir $c/subsystems/$n/namespaces/1 || s=1
	echo -n /dev/ram0 >$c/subsystems/$n/namespaces/1/device_path || s=1
	echo 1 >$c/subsystems/$n/namespaces/1/enable || s=1
	mkdir $c/hosts/nqn.h && mkdir $c/ports/1 || s=1
	echo -n loop >$c/ports/1/addr_trtype || s=1
	ln -s $c/subsystems/$n $c/ports/1/subsystems/$n || s=1
	connect || s=1
	ctl=
	for d in /sys/class/nvme/nvme*; do [ -e $d ] && ctl=$d; done
	if [ -n "$ctl" ]; then
		i=0
		while [ $i -lt 5 ] && ! [ -b /dev/${ctl##*/}n1 ]; do usleep 100000; i=$((i + 1)); done
		dd if=/dev/${ctl##*/}n1 of=/dev/null bs=4k count=2 status=none || s=1
		echo 1 >$ctl/rescan_controller || s=1
		echo 1 >$ctl/reset_controller || s=1
		echo 1 >$ctl/delete_controller || s=1
	fi
	sh "$0" cleanup
	exit $s
	;;
cleanup)
	disconnect
	rm -f $c/ports/1/subsystems/$n
	rmdir $c/ports/1 $c/hosts/nqn.h
	[ -d $c/subsystems/$n/namespaces/1 ] && { echo 0 >$c/subsystems/$n/namespaces/1/enable; rmdir $c/subsystems/$n/namespaces/1; }
	rmdir $c/subsystems/$n
	:
	;;
esac
