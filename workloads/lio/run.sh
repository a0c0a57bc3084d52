#!/bin/sh
# run.sh setup|run|cleanup: what workload.toml says.
t=/sys/kernel/config/target
w=naa.5001405000000001
q=iqn.2026-11.test:x
case $1 in
setup)
	modprobe -a target_core_mod target_core_file target_core_iblock tcm_loop iscsi_target_mod brd sd_mod || exit
	mountpoint -q /sys/kernel/config || mount -t configfs c /sys/kernel/config
	mkdir -p $t/loopback $t/iscsi
	truncate -s 4M /tmp/lio.img
	[ -d $t/core ]
	;;
run)
	s=0
	mkdir -p $t/core/fileio_0/f || s=1
	echo "fd_dev_name=/tmp/lio.img,fd_dev_size=4194304" >$t/core/fileio_0/f/control || s=1
	echo 1 >$t/core/fileio_0/f/enable || s=1
	mkdir -p $t/core/iblock_0/b || s=1
	echo "udev_path=/dev/ram0" >$t/core/iblock_0/b/control || s=1
	echo 1 >$t/core/iblock_0/b/enable || s=1
	mkdir $t/loopback/$w && mkdir $t/loopback/$w/tpgt_1 || s=1
	echo naa.5001405000000002 >$t/loopback/$w/tpgt_1/nexus || s=1
	mkdir $t/loopback/$w/tpgt_1/lun/lun_0 $t/loopback/$w/tpgt_1/lun/lun_1 || s=1
	ln -s $t/core/fileio_0/f $t/loopback/$w/tpgt_1/lun/lun_0/p || s=1
	ln -s $t/core/iblock_0/b $t/loopback/$w/tpgt_1/lun/lun_1/p || s=1
	mkdir $t/iscsi/$q && mkdir $t/iscsi/$q/tpgt_1 || s=1
	# The kernel does not give a port back when a portal fails late.
	for p in 3260 3261 3262 3263 3264 3265 3266 3267 0; do
		[ $p = 0 ] && { s=1; break; }
		mkdir $t/iscsi/$q/tpgt_1/np/127.0.0.1:$p && break
	done
	mkdir $t/iscsi/$q/tpgt_1/lun/lun_0 || s=1
	ln -s $t/core/fileio_0/f $t/iscsi/$q/tpgt_1/lun/lun_0/p || s=1
	mkdir $t/iscsi/$q/tpgt_1/acls/iqn.2026-11.test:i || s=1
	mkdir $t/iscsi/$q/tpgt_1/acls/iqn.2026-11.test:i/lun_0 || s=1
	ln -s $t/iscsi/$q/tpgt_1/lun/lun_0 $t/iscsi/$q/tpgt_1/acls/iqn.2026-11.test:i/lun_0/m || s=1
	echo 1 >$t/iscsi/$q/tpgt_1/enable || s=1
	for d in /sys/class/scsi_disk/*/device/block/*; do
		[ -e "$d" ] && { dd if=/dev/${d##*/} of=/dev/null bs=4k count=2 status=none || s=1; }
	done
	sh "$0" cleanup
	exit $s
	;;
cleanup)
	p=$t/iscsi/$q/tpgt_1
	if [ -d $p ]; then
		echo 0 >$p/enable
		rm -f $p/acls/*/lun_0/m
		rmdir $p/acls/*/lun_0 $p/acls/iqn* $p/np/*:* 2>/dev/null
		rm -f $p/lun/lun_0/p
		rmdir $p/lun/lun_0 $p
	fi
	[ -d $t/iscsi/$q ] && rmdir $t/iscsi/$q
	p=$t/loopback/$w/tpgt_1
	if [ -d $p ]; then
		rm -f $p/lun/lun_0/p $p/lun/lun_1/p
		rmdir $p/lun/lun_0 $p/lun/lun_1
		rmdir $p
	fi
	[ -d $t/loopback/$w ] && rmdir $t/loopback/$w
	rmdir $t/core/fileio_0/f $t/core/fileio_0 $t/core/iblock_0/b $t/core/iblock_0 2>/dev/null
	:
	;;
esac
