#!/bin/sh
# run.sh setup|run|cleanup: what workload.toml says.
c=/sys/kernel/config/nullb
case $1 in
setup)
	modprobe null_blk nr_devices=0 && modprobe zram num_devices=1 && modprobe loop || exit
	modprobe -a lz4 zstd lzo lzo-rle bfq kyber-iosched mq-deadline 2>/dev/null
	mountpoint -q /sys/kernel/config || mount -t configfs c /sys/kernel/config
	truncate -s 4M /tmp/l.img
	;;
run)
	s=0
	for k in "" "memory_backed=1 discard=1" "zoned=1 zone_size=4 memory_backed=1 zone_nr_conv=2" "queue_mode=0 blocksize=512" "submit_queues=1"; do
		mkdir $c/n0 || s=1
		echo 64 >$c/n0/size || s=1
		for o in $k; do echo ${o#*=} >$c/n0/${o%%=*} || s=1; done
		echo 1 >$c/n0/power || s=1
		b=/sys/block/n0
		[ -d $b ] || b=/sys/block/nullb0
		dd if=/dev/${b##*/} of=/dev/null bs=4k count=2 status=none || s=1
		case $k in
		# Those of bios have no queue of requests; zones want their order kept.
		zoned* | queue_mode=0*) ;;
		*)
			echo 16 >$b/queue/nr_requests || s=1
			for q in bfq kyber mq-deadline none; do echo $q >$b/queue/scheduler || s=1; done
			;;
		esac
		echo 0 >$c/n0/power || s=1
		rmdir $c/n0 || s=1
	done
	z=/sys/block/zram0
	for a in lzo-rle zstd lz4; do
		grep -qw -e $a $z/comp_algorithm || continue
		echo $a >$z/comp_algorithm || s=1
		echo 4M >$z/disksize || s=1
		dd if=/dev/zero of=/dev/zram0 bs=4k count=4 conv=fsync status=none || s=1
		dd if=/usr/bin/busybox of=/dev/zram0 bs=4k count=4 conv=fsync status=none || s=1
		echo 1 >$z/reset || s=1
	done
	i=$(cat /sys/class/zram-control/hot_add) && echo $i >/sys/class/zram-control/hot_remove || s=1
	losetup /dev/loop7 /tmp/l.img && dd if=/dev/loop7 of=/dev/null bs=4k count=2 status=none && losetup -d /dev/loop7 || s=1
	exit $s
	;;
cleanup)
	losetup -d /dev/loop7 2>/dev/null
	echo 1 >/sys/block/zram0/reset
	for i in 1 2 3; do [ -e /sys/block/zram$i ] && echo $i >/sys/class/zram-control/hot_remove; done
	[ -d $c/n0 ] && { echo 0 >$c/n0/power; rmdir $c/n0; }
	:
	;;
esac
