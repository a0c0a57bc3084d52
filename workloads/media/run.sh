#!/bin/sh
# run.sh setup|run|cleanup: what workload.toml says.
case $1 in
setup) modprobe vivid n_devs=1; modprobe -aq vim2m vimc vicodec visl vidtv dvb_vidtv_bridge; ls /sys/bus/platform/drivers | grep -q vivid ;;
run)
	s=0
	for d in vivid vim2m vimc vicodec visl vidtv_bridge dvb_vidtv_bridge; do
		d=/sys/bus/platform/drivers/$d
		for x in $d/*.[0-9]*; do
			[ -e $x ] || continue
			n=${x##*/}
			echo $n >$d/unbind || s=1
			echo $n >$d/bind || echo $n >$d/bind || s=1
		done
	done
	exit $s
	;;
cleanup) echo vivid.0 >/sys/bus/platform/drivers/vivid/bind 2>/dev/null; : ;;
esac
