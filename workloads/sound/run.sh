#!/bin/sh
# run.sh setup|run|cleanup: what workload.toml says.
case $1 in
setup) modprobe -a snd-dummy snd-aloop snd-virmidi snd-seq snd-seq-dummy snd-pcm-oss snd-mixer-oss snd-hrtimer; modprobe -q snd-pcmtest; ls /sys/bus/platform/drivers | grep -q snd ;;
run)
	s=0
	for d in /sys/bus/platform/drivers/snd*; do
		for x in $d/snd*; do
			[ -e $x ] || continue
			n=${x##*/}
			echo $n >$d/unbind || s=1
			echo $n >$d/bind || echo $n >$d/bind || s=1
		done
	done
	exit $s
	;;
cleanup)
	for n in snd_dummy.0:snd_dummy snd_aloop.0:snd_aloop snd_virmidi.0:snd_virmidi; do
		[ -e /sys/bus/platform/drivers/${n#*:}/${n%:*} ] || echo ${n%:*} >/sys/bus/platform/drivers/${n#*:}/bind
	done
	: ;;
esac
