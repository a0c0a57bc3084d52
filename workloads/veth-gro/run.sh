#!/bin/sh
# run.sh setup|run|cleanup: what workload.toml says.
. "${0%/*}/../lib/real.sh"
real ip
case $1 in
setup)
	modprobe veth
	ip link add v0 type veth peer name v1
	ip link set v0 up
	ip link set v1 up
	;;
run)
	s=0
	ethtool -K v0 gro on >/dev/null 2>&1 || s=1
	ip link set v0 down || s=1
	ethtool -K v0 gro off >/dev/null 2>&1 || s=1
	ip link set v0 up || s=1
	exit $s
	;;
cleanup) ip link del v0; ip link add v0 type veth peer name v1; ip link set v0 up; ip link set v1 up; : ;;
esac
