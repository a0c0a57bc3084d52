#!/bin/sh
# run.sh setup|run|cleanup: what workload.toml says.
. "${0%/*}/../lib/real.sh"
real ip
i() { "$@" >/dev/null 2>&1 || s=1; }
case $1 in
setup) modprobe e100; ls /sys/bus/pci/drivers/e100/*/net >/dev/null ;;
run)
	s=0
	d=$(echo /sys/bus/pci/drivers/e100/*/net/*)
	d=${d##*/}
	i ip link set $d up
	i ethtool -G $d rx 128
	i ethtool -G $d rx 256
	i ip link set $d down
	exit $s
	;;
cleanup)
	d=$(echo /sys/bus/pci/drivers/e100/*/net/*)
	ip link set ${d##*/} down
	:
	;;
esac
