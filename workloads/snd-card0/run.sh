#!/bin/sh
# run.sh setup|run|cleanup: what workload.toml says.
d=/sys/bus/platform/drivers/snd_dummy
case $1 in
setup) [ -d $d ] || modprobe snd-dummy index=0; [ ! -e $d/snd_dummy.0 ] || echo snd_dummy.0 >$d/unbind ;;
run)
	s=0
	echo snd_dummy.0 >$d/bind || s=1
	echo snd_dummy.0 >$d/unbind || s=1
	exit $s
	;;
cleanup) echo snd_dummy.0 >$d/unbind 2>/dev/null; : ;;
esac
